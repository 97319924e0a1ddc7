"""Inputs for a model that obey what its graph asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError

_FEW = 5  # rows of a table whose length is not known
_NUMPY = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.DOUBLE: np.float64,
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.BFLOAT16: ml_dtypes.bfloat16,
    ir.DataType.INT64: np.int64,
    ir.DataType.INT32: np.int32,
    ir.DataType.INT16: np.int16,
    ir.DataType.INT8: np.int8,
    ir.DataType.UINT8: np.uint8,
    ir.DataType.UINT16: np.uint16,
    ir.DataType.UINT32: np.uint32,
    ir.DataType.UINT64: np.uint64,
    ir.DataType.BOOL: np.bool_,
}
_PASSING = ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Transpose", "Slice")


def make_inputs(model: ir.Model, sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Random inputs by name.

    Floats are standard normal; integers that index a table are below its length, all others are 1 (a mask
    that keeps everything, a type id, a position); initializers that are also inputs keep their values.

    Args:
        model: the model.
        sizes: a size for each symbolic dimension.
        seed: of the random numbers.

    Raises:
        InputError: an input has no shape, or a type that cannot be made.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for value in model.graph.inputs:
        if value.name is None or value.name in model.graph.initializers:
            continue
        if value.shape is None or value.dtype not in _NUMPY:
            raise InputError(
                f"no value can be made for it: type {value.dtype}, shape {value.shape}",
                where=f"input '{value.name}'",
                remedy="give the model's inputs types and shapes",
            )
        shape = [dim if isinstance(dim, int) else sizes.get(str(dim.value), _FEW) for dim in value.shape]
        dtype = _NUMPY[value.dtype]
        if value.dtype.is_floating_point():
            made[value.name] = rng.standard_normal(shape).astype(dtype)
        elif value.dtype == ir.DataType.BOOL:
            made[value.name] = np.ones(shape, np.bool_)
        else:
            length = table_length(value)
            made[value.name] = (rng.integers(0, length, shape) if length else np.ones(shape)).astype(dtype)
    return made


def table_length(value: ir.Value, depth: int = 8) -> int:
    """The length of the shortest table that an integer value indexes; 0 when it indexes none."""
    lengths: list[int] = []
    for node, index in value.uses():
        if node.op_type == "Gather" and index == 1:
            lengths.append(_rows(node))
        elif node.op_type in _PASSING and index == 0 and depth:
            lengths.append(table_length(node.outputs[0], depth - 1))
    return min((length for length in lengths if length), default=0)


def _rows(gather: ir.Node) -> int:
    table = gather.inputs[0]
    if table is None or table.shape is None:
        return _FEW
    axis = gather.attributes["axis"].as_int() if "axis" in gather.attributes else 0
    extent = table.shape[axis] if len(table.shape) else 1
    return extent if isinstance(extent, int) else _FEW
