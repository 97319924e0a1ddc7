"""Facts of what the file stores: initializers and Constant nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fact import EMPTY, Fact, elements
from tautomer.graph.mapped import pieces

STORED_ELEMENTS = 4096  # the content of a larger tensor is not read


def stored(tensor: ir.TensorProtocol) -> Fact:
    """The fact of a stored tensor; the bytes of a large one are not touched."""
    shape = tuple(int(size) for size in tensor.shape)  # type: ignore[arg-type]
    number = tensor.dtype.is_floating_point() or tensor.dtype.is_integer() or tensor.dtype == ir.DataType.BOOL
    array = _read(tensor) if number and elements(shape) <= STORED_ELEMENTS else None
    return Fact(shape, tensor.dtype, array, constant=True, static=True)


def _read(tensor: ir.TensorProtocol) -> Any:
    try:
        return tensor.numpy()
    except Exception:  # external data that is missing, short or damaged
        return None


def constant_node(node: ir.Node) -> Fact:
    """The fact of a Constant node."""
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return EMPTY
        if name == "value" and attribute.type == ir.AttributeType.TENSOR:
            return stored(attribute.value)
        if name in ("value_int", "value_ints"):
            array = np.asarray(attribute.value, dtype=np.int64)
            return Fact(array.shape, ir.DataType.INT64, array, constant=True, static=True)
        if name in ("value_float", "value_floats"):
            array = np.asarray(attribute.value, dtype=np.float32)
            return Fact(array.shape, ir.DataType.FLOAT, array, constant=True, static=True)
    return EMPTY


def largest_element(tensor: ir.TensorProtocol) -> float:
    """max |x| of a stored tensor, nan or inf where it has such elements; in pieces, in little memory."""
    if not tensor.dtype.is_floating_point():
        return 0.0
    largest = 0.0
    for piece in pieces(tensor):
        numbers = piece.astype(np.float32) if piece.dtype.itemsize < 4 else piece
        peak = float(np.maximum(np.max(numbers), -np.min(numbers)))
        if not np.isfinite(peak):
            return peak
        largest = max(largest, peak)
    return largest
