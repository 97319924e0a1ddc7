"""An FX node while it is read: its arguments by the names of the schema, and the IR nodes it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fx.groups import Path, Port
from tautomer.graph.fx.sizes import element_type, is_plain

if TYPE_CHECKING:
    import torch

    from tautomer.graph.fx.reader import Reader


_SINGLE = 4  # bytes
_COMPUTED = "a number that the graph computes, as dynamic shapes make it do"


class Opaque(Exception):
    """The node has no counterpart in this form; the message says why."""


@dataclass(frozen=True)
class Operand:
    """An argument: what it is in the IR, and where it is in the FX node."""

    value: ir.Value
    path: Path
    transposed: bool = False


Input = Operand | ir.Value | None


class Site:
    """One FX node that calls an ATen operator.

    Args:
        reader: knows the values read so far.
        node: the FX node.
    """

    def __init__(self, reader: Reader, node: torch.fx.Node) -> None:
        self.fx, self._reader = node, reader
        self.nodes: list[ir.Node] = []
        self.ports: list[Port] = []
        self._arguments: dict[str, tuple[Any, Path]] = {}
        for index, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
            if index < len(node.args) and not argument.kwarg_only:
                self._arguments[argument.name] = (node.args[index], ("args", index))
            elif argument.name in node.kwargs:
                self._arguments[argument.name] = (node.kwargs[argument.name], ("kwargs", argument.name))
            else:
                default = argument.default_value if argument.has_default_value() else None
                self._arguments[argument.name] = (default, ("kwargs", argument.name))

    @property
    def result(self) -> Any:
        """What the node computes, as torch declares it."""
        return self.fx.meta["val"]

    @property
    def differentiable(self) -> bool:
        """Whether gradients may flow: parameters are not just the numbers that they are now."""
        return not self._reader.stored

    @property
    def shape(self) -> Sequence[Any]:
        """The sizes of the result."""
        shape: Sequence[Any] = self.result.shape
        return shape

    def given(self, name: str) -> Any:
        """An argument as it stands in the FX graph."""
        return self._arguments[name][0]

    def meta(self, name: str) -> Any:
        """What torch declares of a tensor argument.

        Raises:
            Opaque: it is no plain tensor.
        """
        held = getattr(self.given(name), "meta", {}).get("val")
        if not is_plain(held):
            raise Opaque(_what_it_is(name, held))
        return held

    def number(self, name: str) -> Any:
        """An argument that is a number, a bool, a list of them, or left out.

        Raises:
            Opaque: the graph computes it.
        """
        import torch

        held = self.given(name)
        each = held if isinstance(held, (list, tuple)) else [held]
        if any(isinstance(x, (torch.fx.Node, torch.SymInt, torch.SymFloat)) for x in each):
            raise Opaque(f"its {name} is {_COMPUTED}")
        return held

    def expect(self, **numbers: Any) -> None:
        """Raises Opaque unless these arguments have these values."""
        for name, wanted in numbers.items():
            if self.number(name) != wanted:
                raise Opaque(f"its {name} is {self.number(name)}")

    def tensor(self, name: str) -> Operand:
        """A tensor argument; a Python number is a constant of the type in which torch computes with it.

        That is at least float32: 0.044715 is no bfloat16, and torch does not make one of it.
        """
        held, path = self._arguments[name]
        if isinstance(held, (bool, int, float)):
            wide = self.result.dtype.is_floating_point and self.result.element_size() > _SINGLE
            kind = np.float64 if wide else np.float32 if self.result.dtype.is_floating_point else None
            return Operand(self._reader.constant(np.asarray(held, kind)), path)
        return Operand(self._tensor(name, held), path)

    def rounded(self, name: str) -> Operand:
        """The same, the number rounded to the type of the result, as torch does where nothing is computed."""
        held, path = self._arguments[name]
        if not isinstance(held, (bool, int, float)):
            return self.tensor(name)
        dtype = element_type(self.result.dtype)
        assert dtype is not None
        return Operand(self._reader.constant(np.asarray(held).astype(dtype.numpy())), path)

    def optional(self, name: str) -> Operand | None:
        """A tensor argument that may be left out."""
        return None if self.given(name) is None else self.tensor(name)

    def tensors(self, name: str) -> dict[int, Operand]:
        """An argument that is a list of tensors, by position; None is left out."""
        held, path = self._arguments[name]
        return {
            index: Operand(self._tensor(name, each), (*path, index))
            for index, each in enumerate(held)
            if each is not None
        }

    def _tensor(self, name: str, held: Any) -> ir.Value:
        value = self._reader.values.get(held)
        if value is None or not is_plain(held.meta.get("val")):
            raise Opaque(_what_it_is(name, getattr(held, "meta", {}).get("val")))
        return value

    def of_one_type(self, *names: str) -> None:
        """Raises Opaque where torch would convert an operand before it computes: ONNX would not."""
        import torch

        for name in names:
            held = self.given(name)
            if isinstance(held, torch.fx.Node) and self.meta(name).dtype != self.result.dtype:
                raise Opaque("it computes on several element types")
        if self.result.dtype == torch.bool:
            raise Opaque("it is logic, written as arithmetic")

    def widened(self, name: str) -> Operand | ir.Value:
        """A tensor argument in the type of the result, as torch converts it before it computes.

        Raises:
            Opaque: it is neither of half precision beside float32, nor of integers or truths beside floats.
        """
        import torch

        held = self.given(name)
        if not isinstance(held, torch.fx.Node) or self.meta(name).dtype == self.result.dtype:
            return self.tensor(name)
        own, wide = self.meta(name).dtype, self.result.dtype
        half = own in (torch.float16, torch.bfloat16) and wide == torch.float32
        whole = own in (torch.int64, torch.int32, torch.bool) and wide.is_floating_point
        if not half and not whole:
            self.of_one_type(name)
        dtype = element_type(wide)
        assert dtype is not None
        return self.op("Cast", self.tensor(name), to=int(dtype))

    def of_floats(self) -> None:
        """Raises Opaque unless the result is of a float type."""
        if not self.result.dtype.is_floating_point:
            raise Opaque("it computes on integers")

    def constant(self, array: Any, dtype: Any = np.int64) -> ir.Value:
        """A constant of the node's own."""
        return self._reader.constant(np.asarray(array, dtype))

    def sizes(self, extents: Sequence[Any]) -> ir.Value:
        """A list of sizes: a constant, or computed from the shapes of inputs."""
        return self._reader.sizes(extents, self)

    def axis(self, name: str, rank: int) -> int:
        """An axis, counted from the front."""
        axis = int(self.number(name))
        return axis % rank if rank else 0

    def op(self, op_type: str, *inputs: Input, outputs: int = 1, **attributes: Any) -> ir.Value:
        """Adds a node with one output in use."""
        return self.several(op_type, *inputs, outputs=outputs, **attributes)[0]

    def several(
        self, op_type: str, *inputs: Input, outputs: int, domain: str = "", **attributes: Any
    ) -> list[ir.Value]:
        """Adds a node."""
        values = [each.value if isinstance(each, Operand) else each for each in inputs]
        made = self._reader.node(op_type, values, domain, attributes, outputs)
        for index, each in enumerate(inputs):
            if isinstance(each, Operand):
                self.ports.append(Port(each.path, made, index, each.value, each.transposed))
        self.nodes.append(made)
        return list(made.outputs)

    def transposed(self, operand: Operand) -> Operand:
        """A matrix argument with its axes exchanged; whoever reads it reads the argument."""
        value = self.op("Transpose", operand.value, perm=[1, 0])
        return Operand(value, operand.path, transposed=True)

    def source(self, operand: Operand) -> torch.fx.Node:
        """The FX node that an argument is."""
        held: Any = self.fx
        for step in operand.path:
            held = getattr(held, step) if step in ("args", "kwargs") else held[step]
        node: torch.fx.Node = held
        return node

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The arguments by name."""
        return {name: held for name, (held, _) in self._arguments.items()}


def _what_it_is(name: str, held: Any) -> str:
    """Why an argument is no operand."""
    import torch

    number = isinstance(held, (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool))
    return f"its {name} is {_COMPUTED}" if number else f"its {name} is no plain tensor"
