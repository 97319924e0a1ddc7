"""Between kinds of numbers. Among float types a cast is the identity: rounding is not mathematics."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported, is_float
from tautomer.graph.semantics.table import meaning


def lift(m: Mathematics, array: Array) -> Any:
    """A tensor of the graph as its meaning sees it: a value when it is of a float type, else the array."""
    if is_float(array.dtype):
        return m.constant(array)
    if array.dtype.kind not in "iub":
        return _widened(array)
    return array


def _widened(array: Array) -> Array:
    """Numpy has no arithmetic on ml_dtypes' integers of a few bits."""
    if array.dtype.name.startswith("int"):
        return array.astype(np.int8)
    if array.dtype.name.startswith("uint"):
        return array.astype(np.uint8)
    raise Unsupported("Constant", f"of type {array.dtype}")


def convert(m: Mathematics, x: Any, to: ir.DataType) -> Any:
    """x in another type.

    Raises:
        Unsupported: the type is no number, or the domain cannot say the value as one.
    """
    if to.is_floating_point():
        return x if m.is_value(x) else m.constant(x)
    if to == ir.DataType.BOOL:
        return ~m.compare("==", x, 0.0) if m.is_value(x) else x.astype(bool)
    if not to.is_integer() or to.bitwidth < 8:
        raise Unsupported("Cast", f"to {to.name}")
    return (np.trunc(m.concrete(x)) if m.is_value(x) else x).astype(to.numpy())


@meaning("Cast")
def cast(m: Mathematics, call: Call, x: Any) -> Any:
    """x in the type `to`."""
    return convert(m, x, ir.DataType(int(call.attributes["to"])))


@meaning("CastLike")
def cast_like(m: Mathematics, call: Call, x: Any, like: Any) -> Any:
    """x in the type of another tensor."""
    if m.is_value(like):
        return convert(m, x, ir.DataType.FLOAT)
    return convert(m, x, ir.DataType.from_numpy(like.dtype))
