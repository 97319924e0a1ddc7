"""Which axes make a row? Found by touching one element and looking at what moves.

An element of the output that moves when u[p] is touched depends on u[p]. Touching p and then its neighbour
along an axis moves the same outputs exactly when that axis belongs to the row. No operator's axis attribute
is read, so transposes and reshapes inside the cone need no rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tautomer.patterns.recognition.evaluation import Program
from tautomer.patterns.recognition.match import Refusal
from tautomer.patterns.recognition.probe import tensor

Places = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True)
class RowStructure:
    """How a cone maps rows to rows.

    Attributes:
        axes: the axes of a row in the source's shape, ascending.
        folded: True when each row gives one number, False when it gives a row in the same place.
    """

    axes: tuple[int, ...]
    folded: bool


def find_rows(program: Program, shape: tuple[int, ...]) -> RowStructure | Refusal:
    """Determines the row structure on a source of this shape."""
    leaves = [tensor(leaf, index) for index, leaf in enumerate(program.leaf_shapes)]
    base = np.random.default_rng(11).uniform(0.2, 1.0, shape)
    start = tuple(extent // 3 for extent in shape)
    before = program(base, leaves)
    if not np.all(np.isfinite(before)):
        return Refusal("gives NaN or infinity on ordinary values")

    def moved(position: tuple[int, ...]) -> Places:
        touched = base.copy()
        touched[position] = 2.5
        return np.flatnonzero(program(touched, leaves) != before)

    first = moved(start)
    axes = []
    for axis, extent in enumerate(shape):
        if extent > 1:
            neighbour = tuple(p if a != axis else (p + 1) % extent for a, p in enumerate(start))
            if _same_places(first, moved(neighbour)):
                axes.append(axis)
    row = int(np.prod([shape[axis] for axis in axes], dtype=np.int64))
    if row == 1:
        return Refusal("no axis of more than one element is reduced over")
    if before.shape == shape:
        mask = np.zeros(shape, dtype=bool)
        mask[tuple(slice(None) if axis in axes else p for axis, p in enumerate(start))] = True
        if _mostly(np.flatnonzero(mask), first):
            return RowStructure(tuple(axes), folded=False)
        return Refusal("an output element depends on elements outside its own row")
    if before.size * row == base.size and first.size == 1:
        return RowStructure(tuple(axes), folded=True)
    return Refusal(f"gives shape {list(before.shape)} from {list(shape)}: not the shape of its input")


def _same_places(a: Places, b: Places) -> bool:
    if a.size == 0 or b.size == 0:
        return False
    common = np.intersect1d(a, b, assume_unique=True).size
    return bool(2 * common > max(a.size, b.size))


def _mostly(row: Places, touched: Places) -> bool:
    """The touched places fill the row; one or two may fail to move by rounding."""
    inside = np.intersect1d(row, touched, assume_unique=True).size
    return bool(inside == touched.size and inside >= row.size - max(2, row.size // 8))
