"""Constants of which only the type and shape are known: parameters that come with every call."""

from __future__ import annotations

import onnx_ir as ir

from tautomer.graph.fact import Shape


class ValuelessTensor(ir.LazyTensor):
    """A constant without a value; asking for it is an error.

    Args:
        dtype: its element type.
        shape: its shape.
        name: of the constant.
    """

    def __init__(self, dtype: ir.DataType, shape: Shape, name: str) -> None:
        super().__init__(self._none, dtype, ir.Shape(shape), name=name)

    def _none(self) -> ir.TensorProtocol:
        raise ValueError(f"the constant '{self.name}' has no value")
