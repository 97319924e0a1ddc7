"""Quantized tensors as the numbers they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported
from tautomer.graph.semantics.table import meaning


@meaning("DequantizeLinear")
def dequantize_linear(m: Mathematics, call: Call, x: Array, scale: Any, zero: Array | None = None) -> Any:
    """(x - zero) * scale, both along `axis`, or one for each block of it."""
    if m.is_value(x):
        raise Unsupported(call.op_type, "from a float type")
    rank, shape = x.ndim, m.shape(scale)
    axis = int(call.get("axis", 1)) % max(rank, 1)
    block = int(call.get("block_size", 0))

    def fitted(a: Array) -> Array:
        if block:
            return np.repeat(a, block, axis=axis)[tuple(slice(size) for size in x.shape)]
        if a.size == 1:
            return a.reshape(())
        return a.reshape([a.size if i == axis else 1 for i in range(rank)])

    wide = x.astype(np.int64)
    if zero is not None:
        wide = wide - fitted(zero.astype(np.int64))
    return m.constant(wide) * (m.move(fitted, scale) if shape else scale)
