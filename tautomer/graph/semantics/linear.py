"""Matrix products, and the affine map per channel of a trained batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import kind_of
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.semantics.movement import moved, shape_of
from tautomer.graph.semantics.table import meaning, older


@meaning("MatMul")
def matrix_product(m: Mathematics, call: Call, a: Any, b: Any) -> Any:
    """a @ b."""
    return kind_of(m, a, b).matmul(a, b)


def _turned(m: Mathematics, x: Any, turn: bool) -> Any:
    return moved(m, lambda a: np.swapaxes(a, -1, -2), x) if turn and len(shape_of(m, x)) > 1 else x


@meaning("Gemm")
def affine(m: Mathematics, call: Call, a: Any, b: Any, c: Any = None) -> Any:
    """alpha * a @ b + beta * c, a and b transposed on demand."""
    alpha, beta = float(call.get("alpha", 1.0)), float(call.get("beta", 1.0))
    kind = kind_of(m, a, b)
    product = kind.matmul(
        _turned(m, a, bool(call.get("transA", 0))), _turned(m, b, bool(call.get("transB", 0)))
    )
    if alpha != 1.0:
        product = _scaled(m, product, alpha)
    if c is None or beta == 0.0:
        return product
    return product + (c if beta == 1.0 else _scaled(m, c, beta))


def _scaled(m: Mathematics, x: Any, factor: float) -> Any:
    if m.is_value(x):
        return x * factor
    if factor != int(factor):
        raise Unsupported("Gemm", "a fraction of integers")
    return x * int(factor)


@meaning("FusedMatMul", domain="com.microsoft")
def fused_matrix_product(m: Mathematics, call: Call, a: Any, b: Any) -> Any:
    """alpha * a @ b, the last two axes of a and b swapped on demand."""
    if call.get("transBatchA", 0) or call.get("transBatchB", 0):
        raise Unsupported("FusedMatMul", "transposed batches")
    product = m.matmul(_turned(m, a, bool(call.get("transA", 0))), _turned(m, b, bool(call.get("transB", 0))))
    return product * float(call.get("alpha", 1.0))


@meaning("BatchNormalization")
def batch_normalization(
    m: Mathematics, call: Call, x: Any, scale: Any, bias: Any, mean: Any, variance: Any
) -> Any:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias for each channel, with stored statistics."""
    if call.get("training_mode", 0) or call.outputs > 1:
        raise Unsupported("BatchNormalization", "training mode")
    if older(call, 9) and not call.get("spatial", 1):
        raise Unsupported("BatchNormalization", "statistics per element")
    rank = len(shape_of(m, x))

    def channels(value: Any) -> Any:
        return m.move(lambda a: a.reshape((-1,) + (1,) * (rank - 2)) if rank > 1 else a, value)

    factor = m.rsqrt(channels(variance) + float(call.get("epsilon", 1e-5)))
    return (x - channels(mean)) * factor * channels(scale) + channels(bias)
