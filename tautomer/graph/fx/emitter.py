"""Writing single nodes: what a rewrite made, as calls of ATen operators at the place where they stand."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fx.sizes import torch_type
from tautomer.graph.valueless import ValuelessTensor

if TYPE_CHECKING:
    import torch


class Unwritable(Exception):
    """A value that torch's graph cannot have; the message says which."""


_ON_SIZES: dict[str, Callable[[Any, Any], Any]] = {"Add": operator.add, "Sub": operator.sub}

Stored = Callable[[ir.Value, bool], Any]


class Emitter:
    """Adds FX nodes at the end of a graph.

    Args:
        graph: the graph.
        fake_mode: computes what new nodes give.
        known: FX nodes by the IR values that they are.
        store: makes an FX node of a constant that a rewrite made; its second argument: transposed.
        on_demand: makes the FX node of a value that nobody has asked for yet, or gives None.
    """

    def __init__(
        self,
        graph: torch.fx.Graph,
        fake_mode: Any,
        known: dict[ir.Value, Any],
        store: Stored,
        on_demand: Callable[[ir.Value], Any],
    ) -> None:
        self._graph, self.mode, self.known = graph, fake_mode, known
        self._store, self._on_demand = store, on_demand
        self.made: list[Any] = []
        self.context: dict[str, Any] = {}

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """A call of an ATen operator, by the name that torch prints."""
        import torch

        _, packet, overload = name.split(".")
        target = getattr(getattr(torch.ops.aten, packet), overload)
        return self.call_target(target, *arguments, **named)

    def call_target(self, target: Any, *arguments: Any, **named: Any) -> Any:
        """A call of anything that torch can trace."""
        node = self._graph.call_function(target, arguments, named)
        node.meta.update(self.context)
        node.meta["val"] = self.evaluated(node)
        self.made.append(node)
        return node

    def evaluated(self, node: Any) -> Any:
        """What a node gives, by torch's own rules for types, shapes and strides.

        Raises:
            Unwritable: torch refuses the operands.
        """
        import torch

        def fake(held: Any) -> Any:
            return held.meta["val"]

        arguments = torch.fx.map_arg(node.args, fake)
        named = torch.fx.map_arg(node.kwargs, fake)
        try:
            with self.mode, torch.no_grad():
                return node.target(*arguments, **named)
        except (RuntimeError, TypeError, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise Unwritable(f"torch refuses what {node.target} would get: {first}") from error

    def operand(self, value: ir.Value | None, *, weak: bool = False) -> Any:
        """The FX node of a value; where it is asked for, a constant of one element as a Python number."""
        if value is None:
            raise Unwritable("an operand is left out")
        if value in self.known:
            return self.known[value]
        if value.const_value is not None and value.producer() is None:
            return self._constant(value, weak)
        made = self._on_demand(value)
        if made is None:
            raise Unwritable(f"'{value.name}' has no counterpart in torch")
        return made

    def transposed(self, value: ir.Value) -> Any:
        """The FX node of a matrix with its axes exchanged."""
        if value not in self.known and value.const_value is not None and value.producer() is None:
            number = _uniform(value.const_value)
            if number is None:
                return self._store(value, True)
        return self.call("aten.t.default", self.operand(value))

    def _constant(self, value: ir.Value, weak: bool) -> Any:
        tensor = value.const_value
        assert tensor is not None
        number = _uniform(tensor)
        if number is not None and weak and tensor.size == 1:
            return number
        if number is not None and tensor.size:
            dtype = torch_type(tensor.dtype)
            return self.call("aten.full.default", list(tensor.shape.numpy()), number, dtype=dtype)
        made = self._store(value, False)
        self.known[value] = made
        return made

    def none_if(self, value: ir.Value | None, neutral: float) -> Any:
        """The FX node of a gain or bias; None when it is a constant of neutral elements."""
        if value is None:
            return None
        new = value not in self.known and value.producer() is None and value.const_value is not None
        if new and _uniform(value.const_value) == neutral:  # type: ignore[arg-type]
            return None
        return self.operand(value)

    def number(self, value: ir.Value | None) -> Any:
        """A constant of one element as a Python number."""
        number = None if value is None or value.const_value is None else _uniform(value.const_value)
        if number is None:
            raise Unwritable("an operand should be a number")
        return number

    def integers(self, value: ir.Value | None) -> list[Any]:
        """A list of integers: numbers, and FX nodes for the sizes of inputs."""
        node = None if value is None else value.producer()
        if value is not None and node is None and value.const_value is not None:
            return [int(each) for each in np.asarray(value.const_value.numpy()).reshape(-1)]
        if node is not None and node.op_type == "Concat":
            return [each for operand in node.inputs for each in self.integers(operand)]
        if node is not None and node.op_type in _ON_SIZES:
            pairs = zip(*map(self.integers, node.inputs), strict=True)
            return [self._calculated(_ON_SIZES[node.op_type], *pair) for pair in pairs]
        if node is not None and node.op_type == "Shape":
            source = self.operand(node.inputs[0])
            sizes = source.meta["val"].shape
            first, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(sizes))
            return [
                size if isinstance(size, int) else self.call("aten.sym_size.int", source, axis)
                for axis, size in list(enumerate(sizes))[first:end]
            ]
        raise Unwritable("a list of sizes is computed in another way than from shapes")

    def _calculated(self, function: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
        known = isinstance(one, int) and isinstance(other, int)
        return function(one, other) if known else self.call_target(function, one, other)

    def shape(self, value: ir.Value | None) -> list[Any]:
        """The sizes of a value, as torch declares them; those that are asked for must be numbers."""
        return list(self.operand(value).meta["val"].shape)

    def rank(self, value: ir.Value | None) -> int:
        """The rank of a value."""
        if value is not None and value.const_value is not None:
            return len(value.const_value.shape)
        return len(self.shape(value))


def _uniform(tensor: ir.TensorProtocol) -> float | int | bool | None:
    """The number that all elements are, or None."""
    if isinstance(tensor, ValuelessTensor) or not tensor.size:
        return None
    if tensor.size > 1 and isinstance(tensor, ir.LazyTensor):
        return None  # computed weights are not looked at
    array = np.asarray(tensor.numpy())
    first = array.reshape(-1)[0]
    if not np.all(array == first):
        return None
    kind = array.dtype.kind
    return bool(first) if kind == "b" else int(first) if kind in "iu" else float(first)
