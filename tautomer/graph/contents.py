"""Does a tensor hold as many bytes as its type and shape promise?

Everything downstream reads a tensor's bytes by its type and shape. In a hostile file the two disagree, so
they are compared once, before anything is read.
"""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from tautomer.errors import BadModelError

_T = onnx.TensorProto

# which field holds the values when they are not raw, and how many entries one value takes
_FIELDS: dict[int, tuple[str, float]] = {
    _T.FLOAT: ("float_data", 1),
    _T.COMPLEX64: ("float_data", 2),
    _T.DOUBLE: ("double_data", 1),
    _T.COMPLEX128: ("double_data", 2),
    _T.INT64: ("int64_data", 1),
    _T.UINT64: ("uint64_data", 1),
    _T.UINT32: ("uint64_data", 1),
    _T.STRING: ("string_data", 1),
}
_PACKED = {4: 0.5, 2: 0.25}  # values of 2 and 4 bits share an entry, of 6 bits do not
_REMEDY = "export the model again"


def element_type(tensor: onnx.TensorProto, where: str) -> ir.DataType:
    """The type of the tensor's values."""
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError as error:
        raise BadModelError(
            f"the element type {tensor.data_type} is unknown", where=where, remedy=_REMEDY
        ) from error
    if kind == ir.DataType.UNDEFINED:
        raise BadModelError("the tensor has no element type", where=where, remedy=_REMEDY)
    return kind


def count(tensor: onnx.TensorProto, where: str) -> int:
    """How many values the shape promises."""
    if any(size < 0 for size in tensor.dims):
        raise BadModelError(f"the shape {list(tensor.dims)} has a negative size", where=where, remedy=_REMEDY)
    return math.prod(tensor.dims)


def expected_bytes(tensor: onnx.TensorProto, where: str) -> int:
    """How many bytes the values take as raw data."""
    kind = element_type(tensor, where)
    if kind == ir.DataType.STRING:
        raise BadModelError("strings cannot be stored as raw or external data", where=where, remedy=_REMEDY)
    return (count(tensor, where) * kind.bitwidth + 7) // 8


def check_inline(tensor: onnx.TensorProto, where: str, cut_out: int | None = None) -> None:
    """Refuses a tensor whose inline data is shorter or longer than its shape.

    Args:
        tensor: the tensor.
        where: what messages call it.
        cut_out: the length of its raw data when that was cut out before parsing.
    """
    if tensor.HasField("segment"):
        raise BadModelError(
            "the tensor is stored in segments, which no runtime reads", where=where, remedy=_REMEDY
        )
    if cut_out is not None or tensor.HasField("raw_data"):
        found = len(tensor.raw_data) if cut_out is None else cut_out
        expected = expected_bytes(tensor, where)
        unit = "bytes"
    else:
        kind = element_type(tensor, where)
        field, per_value = _FIELDS.get(kind) or ("int32_data", _PACKED.get(kind.bitwidth, 1))
        found, expected = len(getattr(tensor, field)), math.ceil(count(tensor, where) * per_value)
        unit = "values"
    if found != expected:
        raise BadModelError(
            f"the shape {list(tensor.dims)} needs {expected} {unit} and the tensor has {found}",
            where=where,
            remedy=_REMEDY,
        )
