"""Inputs at the thresholds of a piecewise function: on which side a threshold is, only it shows itself.

    x where x >= t, else 0        x where x > t, else 0

differ at x = t alone, which no random number is, and there an ulp of the input explains any error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.float64]

_COMPARING = ("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal", "Sign")
_MOST = 16  # inputs that the numbers of one constant are put into
_JUMP = 1e-3  # of the largest element of a result; what is less is left to the judgement of rounding


def thresholds(nodes: Iterable[ir.Node], x: ir.Value, content: Callable[[ir.Value], Any]) -> list[Array]:
    """What is compared with numbers computed from x, and 0 for those that are compared with each other.

    Args:
        nodes: in topological order.
        x: what varies.
        content: gives a value that does not vary with x.
    """
    varying, found = {x}, list[Array]()
    for node in nodes:
        if any(value in varying for value in node.inputs):
            varying.update(node.outputs)
            if node.op_type in _COMPARING:
                fixed = [value for value in node.inputs if value is not None and value not in varying]
                found += [np.asarray(content(value), np.float64) for value in fixed] or [np.zeros(())]
    return found


def inputs_at(numbers: Sequence[Array], shape: tuple[int, ...]) -> Iterator[Array]:
    """Inputs of a shape, each element at a threshold: at its own, where thresholds are broadcast to it."""
    size = int(np.prod(shape, dtype=np.int64))
    for one in numbers:
        ordinary = one[np.isfinite(one)]
        if not size or not ordinary.size:
            continue
        if ordinary.size == one.size and _fits(one.shape, shape):
            yield np.broadcast_to(one, shape).copy()
        else:
            for first in range(0, min(ordinary.size, _MOST * size), size):
                yield np.resize(np.roll(ordinary, -first), shape)


def jump(x: Array, old: Any, new: Any) -> str:
    """Where two results at thresholds part, in words, or ""."""
    before, after = (np.asarray(one, np.float64) for one in (old, new))
    with np.errstate(all="ignore"):
        scale = np.abs(before[np.isfinite(before)]).max(initial=0.0)
        apart = np.isfinite(before) & ~(np.abs(after - before) <= _JUMP * scale)
    if not apart.any():
        return ""
    place = tuple(np.argwhere(apart)[0])
    where = f"x = {x[place]:g}" if x.shape == before.shape else "a threshold"
    return f"at {where}, where a comparison changes sides, {after[place]:g} for {before[place]:g}"


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, other) == other
    except ValueError:
        return False
