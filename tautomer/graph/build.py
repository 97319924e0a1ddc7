"""Building nodes: operators in the form that the opset in force has them, with names that are free.

Names of new nodes and values are made from a counter, never from text of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

_NUMPY: dict[ir.DataType, np.dtype[Any]] = {
    ir.DataType.DOUBLE: np.dtype(np.float64),
    ir.DataType.FLOAT: np.dtype(np.float32),
    ir.DataType.FLOAT16: np.dtype(np.float16),
    ir.DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}
# Reductions took their axes as an attribute before these versions, and take them as an input since.
_AXES_INPUT_SINCE = {"ReduceSum": 13, "Unsqueeze": 13, "Squeeze": 13}
_AXES_INPUT_SINCE_OTHERS = 18


class Names:
    """Hands out names that no node or value of a model has."""

    def __init__(self, taken: Iterable[str | None]) -> None:
        self._taken = {name for name in taken if name}
        self._next: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """`stem_0`, `stem_1`, ...: the first that is free."""
        index = self._next.get(stem, 0)
        while f"{stem}_{index}" in self._taken:
            index += 1
        self._next[stem] = index + 1
        name = f"{stem}_{index}"
        self._taken.add(name)
        return name

    @classmethod
    def of(cls, model: ir.Model) -> Names:
        """Every name in use in a model's graphs."""
        taken: list[str | None] = []
        for graph in model.graphs():
            taken += [value.name for value in graph.inputs]
            taken += list(graph.initializers)
            for node in graph:
                taken.append(node.name)
                taken += [value.name for value in node.outputs]
        return cls(taken)


class Builder:
    """Collects new nodes for one place in one graph or function.

    Args:
        version: the opset version of ONNX's own domain.
        names: where names come from.
        graph: where constants become initializers; None writes Constant nodes (inside functions).
        shared: initializers this and earlier builders made for the graph, by content.
    """

    def __init__(
        self,
        version: int,
        names: Names,
        graph: ir.Graph | None = None,
        shared: dict[Any, ir.Value] | None = None,
    ) -> None:
        self.version = version
        self.nodes: list[ir.Node] = []
        self._names = names
        self._graph = graph
        self._shared = {} if shared is None else shared
        self._pending: dict[Any, ir.Value] = {}

    def op(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Adds a node with one output."""
        return self.several(op_type, 1, *inputs, domain=domain, **attributes)[0]

    def several(
        self, op_type: str, outputs: int, *inputs: ir.Value | None, domain: str = "", **attributes: Any
    ) -> list[ir.Value]:
        """Adds a node with so many outputs."""
        name = self._names.fresh(f"tautomer/{op_type}")
        values = [ir.Value(name=f"{name}/y" if outputs == 1 else f"{name}/y{i}") for i in range(outputs)]
        kept = {key: value for key, value in attributes.items() if value is not None}
        made = ir.node(op_type, list(inputs), kept, domain=domain, outputs=values, name=name)
        self.nodes.append(made)
        return values

    def reduce(self, op_type: str, x: ir.Value, axes: Sequence[int], keepdims: bool = True) -> ir.Value:
        """Adds a reduction; its axes are an attribute or an input, as the opset wants them."""
        if self.version < _AXES_INPUT_SINCE.get(op_type, _AXES_INPUT_SINCE_OTHERS):
            return self.op(op_type, x, axes=list(axes), keepdims=int(keepdims))
        return self.op(op_type, x, self.constant(np.array(axes, np.int64)), keepdims=int(keepdims))

    def scalar(self, value: float, dtype: ir.DataType) -> ir.Value:
        """A number of an element type, rounded once."""
        return self.constant(np.asarray(value).astype(_NUMPY[dtype]))

    def filled(self, value: float, shape: Sequence[int], dtype: ir.DataType) -> ir.Value:
        """A constant tensor of one number."""
        return self.constant(np.full(tuple(shape), value).astype(_NUMPY[dtype]))

    def constant(self, array: np.ndarray[Any, Any]) -> ir.Value:
        """A constant; equal constants are one value."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if self._graph is None:
            tensor = ir.tensor(array)
            return self.op("Constant", value=ir.AttrTensor("value", tensor))
        known = self._shared.get(key) or self._pending.get(key)
        if known is None:
            name = self._names.fresh("tautomer/constant")
            value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
            value.type = ir.TensorType(value.const_value.dtype)  # type: ignore[union-attr]
            value.shape = ir.Shape(array.shape)
            self._pending[key] = value
            return value
        return known

    def commit(self) -> None:
        """Makes the constants that the new nodes read initializers of the graph."""
        for key, value in self._pending.items():
            if self._graph is not None and value.uses():
                self._graph.register_initializer(value)
                self._shared[key] = value
        self._pending.clear()

    def discard(self) -> None:
        """Takes the new nodes back: nothing of them is left in the graph."""
        for node in reversed(self.nodes):
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
        self.nodes.clear()
        self._pending.clear()


def numpy_type(dtype: ir.DataType) -> np.dtype[Any]:
    """The numpy type of a floating point element type."""
    return _NUMPY[dtype]
