"""Operators that write updates at positions of a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import integers, kind_of
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported
from tautomer.graph.semantics.movement import shape_of
from tautomer.graph.semantics.selection import along
from tautomer.graph.semantics.table import meaning


def _written(m: Mathematics, call: Call, x: Any, targets: Array, updates: Any) -> Any:
    """x with the updates combined in at flat positions, one round per time that a position repeats."""
    kind, where = kind_of(m, x), targets.reshape(-1)

    def place(a: Array, u: Array) -> Array:
        out = a.copy().reshape(-1)
        out[where] = u.reshape(-1)
        return out.reshape(a.shape)

    reduction = call.get("reduction", "none")
    if reduction == "none":
        return kind.move(place, x, updates)
    combine = {
        "add": lambda a, b: a + b,
        "mul": lambda a, b: a * b,
        "max": kind.maximum,
        "min": kind.minimum,
    }.get(reduction)
    if combine is None:
        raise Unsupported(call.op_type, f"reduction {reduction}")
    rounds = _occurrence(where)
    for turn in range(int(rounds.max(initial=-1)) + 1):
        now = np.flatnonzero(rounds == turn)
        chosen = kind.move(lambda u, now=now: u.reshape(-1)[now], updates)
        present = kind.move(lambda a, now=now: a.reshape(-1)[where[now]], x)

        def put(a: Array, u: Array, now: Array = now) -> Array:
            out = a.copy().reshape(-1)
            out[where[now]] = u
            return out.reshape(a.shape)

        x = kind.move(put, x, combine(present, chosen))
    return x


def _occurrence(where: Array) -> Array:
    """For each entry, how many entries before it are equal."""
    order = np.argsort(where, kind="stable")
    ranked = where[order]
    first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[first, len(ranked)])
    occurrence = np.empty(len(where), dtype=np.int64)
    occurrence[order] = np.arange(len(ranked)) - np.repeat(first, counts)
    return occurrence


@meaning("ScatterElements", "Scatter")
def scatter_elements(m: Mathematics, call: Call, x: Any, indices: Any, updates: Any) -> Any:
    """An index along the axis for every update."""
    targets = along(shape_of(m, x), integers(m, indices), int(call.get("axis", 0)))
    return _written(m, call, x, targets, updates)


@meaning("ScatterND")
def scatter_nd(m: Mathematics, call: Call, x: Any, indices: Any, updates: Any) -> Any:
    """Slices at coordinates, which are the last axis of the indices."""
    shape = shape_of(m, x)
    base = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    targets = base[tuple(np.moveaxis(integers(m, indices), -1, 0))]
    return _written(m, call, x, targets, updates)


@meaning("TensorScatter")
def tensor_scatter(m: Mathematics, call: Call, past: Any, update: Any, begin: Any = None) -> Any:
    """A cache with new positions written along an axis, from an index for each sequence on."""
    shape, new = shape_of(m, past), shape_of(m, update)
    axis = int(call.get("axis", -2)) % len(shape)
    first = np.zeros(shape[0], np.int64) if begin is None else integers(m, begin)
    steps = np.arange(new[axis]).reshape((-1,) + (1,) * (len(shape) - 1 - axis))
    where = first.reshape((-1,) + (1,) * (len(shape) - 1)) + steps
    if call.get("mode", "linear") == "circular":
        where = where % shape[axis]
    targets = along(shape, np.broadcast_to(where, new), axis)
    return _written(m, call, past, targets, update)
