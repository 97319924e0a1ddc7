"""x - mean(x) along digits, as nodes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.digits import Digits, Local
from tautomer.graph.fact import Shape


def centred(b: Builder, x: ir.Value, digits: Digits, shape: Shape) -> ir.Value:
    """The value with its mean taken out.

    Args:
        b: writes the nodes.
        x: the value.
        digits: along which the mean is taken; along none, a value is its own mean.
        shape: of x; where digits are a part of an axis, the sizes are written into the graph.
    """
    if not digits:
        return b.op("Sub", x, x)
    local = digits.per_axis(shape)
    assert local is not None
    if all(pieces in ((), ((1, size),)) for pieces, size in zip(local, shape, strict=True)):
        return b.op(
            "Sub", x, mean_along(b, x, [axis for axis, pieces in enumerate(local) if pieces], len(shape))
        )
    sizes, axes = split(local, shape)
    apart = b.op("Reshape", x, b.constant(np.array(sizes, np.int64)))
    whole = b.op("Sub", apart, mean_along(b, apart, axes, len(sizes)))
    return b.op("Reshape", whole, b.constant(np.array(shape, np.int64)))


def mean_along(b: Builder, x: ir.Value, axes: list[int], rank: int) -> ir.Value:
    """The mean along axes, which are kept; counted from the end, where a batch may come or go."""
    return b.reduce("ReduceMean", x, [axis - rank for axis in axes])


def split(local: tuple[Local, ...], shape: Shape) -> tuple[list[int], list[int]]:
    """The sizes of axes cut at the boundaries of digits, and which of them the digits are."""
    sizes: list[int] = []
    axes: list[int] = []
    for pieces, size in zip(local, shape, strict=True):
        boundaries = sorted({1, size}.union(*pieces), reverse=True)
        for above, below in pairwise(boundaries):
            if any(lo <= below and above <= hi for lo, hi in pieces):
                axes.append(len(sizes))
            sizes.append(above // below)
        if size == 1:
            sizes.append(1)
    return sizes, axes
