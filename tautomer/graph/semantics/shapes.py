"""Tensors made of shapes and of constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import CONCRETE, integer_list, integers, kind_of
from tautomer.graph.semantics.casts import convert, lift
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.semantics.table import meaning


@meaning("Shape")
def shape(m: Mathematics, call: Call, x: Any) -> Any:
    """The sizes of the axes from start to end."""
    sizes = kind_of(m, x).shape(x)
    return np.asarray(sizes[call.get("start", 0) : call.get("end")], dtype=np.int64)


@meaning("Size")
def size(m: Mathematics, call: Call, x: Any) -> Any:
    """How many elements there are."""
    return np.asarray(np.prod(kind_of(m, x).shape(x), dtype=np.int64))


@meaning("Constant")
def constant(m: Mathematics, call: Call) -> Any:
    """The attribute that it carries."""
    for name, value in call.attributes.items():
        if name == "value":
            return lift(m, np.asarray(value))
        if name in ("value_int", "value_ints"):
            return np.asarray(value, dtype=np.int64)
        if name in ("value_float", "value_floats"):
            return m.constant(np.asarray(value, dtype=np.float32))
    raise Unsupported("Constant", "neither a tensor nor numbers")


@meaning("ConstantOfShape")
def constant_of_shape(m: Mathematics, call: Call, sizes: Any) -> Any:
    """One number everywhere."""
    number = np.asarray(call.get("value", np.zeros(1, np.float32))).reshape(())
    return lift(m, np.full(integer_list(m, sizes), number, dtype=number.dtype))


@meaning("Range")
def arithmetic_progression(m: Mathematics, call: Call, start: Any, limit: Any, delta: Any) -> Any:
    """start, start + delta, ... up to but without limit."""
    first, last, step = (
        float(m.concrete(x).item()) if m.is_value(x) else int(np.asarray(x).item())
        for x in (start, limit, delta)
    )
    count = max(int(np.ceil((last - first) / step)), 0)
    if m.is_value(start):
        return start + m.constant(np.arange(count)) * delta
    return (np.asarray(start) + np.arange(count) * np.asarray(delta)).astype(np.asarray(start).dtype)


@meaning("EyeLike")
def eye_like(m: Mathematics, call: Call, x: Any) -> Any:
    """Ones on the k-th diagonal of a matrix of x's shape."""
    rows, columns = kind_of(m, x).shape(x)
    eye = np.eye(rows, columns, k=int(call.get("k", 0)), dtype=bool)
    if call.get("dtype") is not None:
        return convert(m, eye, ir.DataType(int(call.get("dtype"))))
    return m.constant(eye) if m.is_value(x) else eye.astype(x.dtype)


@meaning("NonZero")
def nonzero(m: Mathematics, call: Call, x: Any) -> Any:
    """The positions of the elements that are not zero, a column each."""
    array = m.concrete(x) if m.is_value(x) else np.asarray(x)
    return np.asarray(np.nonzero(array), dtype=np.int64).reshape(array.ndim, -1)


@meaning("OneHot")
def one_hot(m: Mathematics, call: Call, indices: Any, depth: Any, values: Any) -> Any:
    """values[1] where the position along the new axis is the index, else values[0]."""
    size = integer_list(m, depth)[0]
    positions = integers(m, indices)
    rank = positions.ndim + 1
    axis = int(call.get("axis", -1)) % rank
    positions = np.where(positions < 0, positions + size, positions)
    steps = np.arange(size).reshape((size,) + (1,) * (rank - 1 - axis))
    kind = kind_of(m, values)
    off, on = (kind.move(lambda a, i=i: a[i], values) for i in (0, 1))
    return kind.where(np.expand_dims(positions, axis) == steps, on, off)


@meaning("TopK")
def top_k(m: Mathematics, call: Call, x: Any, k: Any = None) -> Any:
    """The k largest (or smallest) along the axis and where they are; of equals the first comes first."""
    kind = kind_of(m, x)
    array = m.concrete(x) if kind is not CONCRETE else np.asarray(x)
    axis = int(call.get("axis", -1))
    count = int(call.attributes["k"]) if k is None else integer_list(m, k)[0]
    if call.get("largest", 1):
        # a stable sort backwards, read backwards, keeps the first of equals first
        order = array.shape[axis] - 1 - np.flip(np.argsort(np.flip(array, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(array, axis, kind="stable")
    picked = np.take(order, np.arange(count), axis)
    return kind.move(lambda a: np.take_along_axis(a, picked, axis), x), picked.astype(np.int64)
