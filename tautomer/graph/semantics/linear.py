"""Matrix products, and the normalisations of images, which end in an affine map per channel."""

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
    factor = m.rsqrt(_channels(m, variance, rank) + float(call.get("epsilon", 1e-5)))
    centred = x - _channels(m, mean, rank)
    return centred * factor * _channels(m, scale, rank) + _channels(m, bias, rank)


def _channels(m: Mathematics, value: Any, rank: int) -> Any:
    """A number per channel, as it meets a tensor of this rank."""
    return m.move(lambda a: a.reshape((-1,) + (1,) * (rank - 2)) if rank > 1 else a, value)


def _normalised(m: Mathematics, call: Call, x: Any) -> Any:
    """(x - mean) / sqrt(variance + epsilon), over all axes but the first two."""
    axes = tuple(range(2, len(m.shape(x))))
    centred = x - m.mean(x, axes, True)
    return centred * m.rsqrt(m.mean(centred * centred, axes, True) + float(call.get("epsilon", 1e-5)))


@meaning("InstanceNormalization")
def instance_normalization(m: Mathematics, call: Call, x: Any, scale: Any, bias: Any) -> Any:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, with the numbers of each image and channel."""
    rank = len(m.shape(x))
    return _normalised(m, call, x) * _channels(m, scale, rank) + _channels(m, bias, rank)


@meaning("GroupNormalization")
def group_normalization(m: Mathematics, call: Call, x: Any, scale: Any, bias: Any) -> Any:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, with the numbers of groups of channels."""
    shape, groups = m.shape(x), int(call.attributes["num_groups"])
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    normalised = _normalised(m, call, m.move(lambda a: a.reshape(split), x))
    if older(call, 21):  # scale and bias are of the groups there
        rank = len(split)
        normalised = normalised * _channels(m, scale, rank) + _channels(m, bias, rank)
        return m.move(lambda a: a.reshape(shape), normalised)
    rank = len(shape)
    whole = m.move(lambda a: a.reshape(shape), normalised)
    return whole * _channels(m, scale, rank) + _channels(m, bias, rank)


@meaning("LpNormalization")
def lp_normalization(m: Mathematics, call: Call, x: Any) -> Any:
    """x / |x|_p along an axis, p 1 or 2; 0 where all of x is 0."""
    axis, p = int(call.get("axis", -1)) % len(m.shape(x)), int(call.get("p", 2))
    if p not in (1, 2):
        raise Unsupported("LpNormalization", f"p = {p}")
    norm = m.sum(m.abs(x), (axis,), True) if p == 1 else m.sqrt(m.sum(x * x, (axis,), True))
    result = x / norm
    try:
        empty = m.compare("==", norm, 0.0)
    except Unsupported:  # a field has no order, and no infinity either
        empty = m.isinf(m.reciprocal(norm))
    return m.where(empty, 0.0, result) if empty.any() else result
