"""Operators that read elements at positions: slices, gathers, paddings, triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import integer_list, integers, kind_of
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported
from tautomer.graph.semantics.movement import moved, numbers, shape_of
from tautomer.graph.semantics.table import meaning


def slices(
    rank: int, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None
) -> tuple[slice, ...]:
    """What Slice cuts out, as Python slices: both clamp and count from the end in the same way."""
    cuts = [slice(None)] * rank
    named = list(range(len(starts))) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, named, steps or [1] * len(starts), strict=True):
        cuts[axis] = slice(start, end, step)
    return tuple(cuts)


def paddings(call: Call, rank: int, pads: list[int], axes: list[int] | None) -> list[tuple[int, int]]:
    """How much Pad adds before and after each axis."""
    named = range(rank) if axes is None else [axis % rank for axis in axes]
    widths = [(0, 0)] * rank
    for i, axis in enumerate(named):
        widths[axis] = (pads[i], pads[i + len(pads) // 2])
    return widths


def filled(a: Array, fill: Array, widths: list[tuple[int, int]]) -> Array:
    """a with a frame of the one element of `fill`; negative widths cut."""
    sizes = [size + before + after for size, (before, after) in zip(a.shape, widths, strict=True)]
    out = np.empty(sizes, dtype=a.dtype)
    out[...] = fill.reshape(())
    inner = tuple(
        slice(max(before, 0), out.shape[i] - max(after, 0)) for i, (before, after) in enumerate(widths)
    )
    source = tuple(
        slice(max(-before, 0), a.shape[i] - max(-after, 0)) for i, (before, after) in enumerate(widths)
    )
    out[inner] = a[source]
    return out


@meaning("Slice")
def cut(
    m: Mathematics,
    call: Call,
    x: Any,
    starts: Any = None,
    ends: Any = None,
    axes: Any = None,
    steps: Any = None,
) -> Any:
    """From start to end in steps, along some axes."""
    where = slices(
        len(shape_of(m, x)),
        numbers(m, call, "starts", starts) or [],
        numbers(m, call, "ends", ends) or [],
        numbers(m, call, "axes", axes),
        numbers(m, call, "steps", steps),
    )
    return moved(m, lambda a: a[where], x)


@meaning("Gather")
def gather(m: Mathematics, call: Call, x: Any, indices: Any) -> Any:
    """The slices of x at the indices along an axis."""
    axis, where = int(call.get("axis", 0)), integers(m, indices)
    return moved(m, lambda a: np.take(a, where, axis), x)


def along(shape: tuple[int, ...], indices: Array, axis: int) -> Array:
    """The flat positions that an index per element, along an axis, names in a tensor."""
    base = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    axis %= len(shape)
    corner = tuple(slice(None) if i == axis else slice(0, n) for i, n in enumerate(indices.shape))
    return np.take_along_axis(base[corner], indices, axis)


@meaning("GatherElements")
def gather_elements(m: Mathematics, call: Call, x: Any, indices: Any) -> Any:
    """An index along the axis for every element of the result."""
    where = along(shape_of(m, x), integers(m, indices), int(call.get("axis", 0)))
    return moved(m, lambda a: a.reshape(-1)[where], x)


@meaning("GatherND")
def gather_nd(m: Mathematics, call: Call, x: Any, indices: Any) -> Any:
    """The slices of x at coordinates, which are the last axis of the indices."""
    batch, where = int(call.get("batch_dims", 0)), integers(m, indices)
    middle = where.ndim - 1 - batch
    leading = [axis.reshape(axis.shape + (1,) * middle) for axis in np.indices(where.shape[:batch])]
    place = (*leading, *np.moveaxis(where, -1, 0))
    return moved(m, lambda a: a[place], x)


@meaning("Compress")
def compress(m: Mathematics, call: Call, x: Any, condition: Any) -> Any:
    """The slices along the axis, or the elements, for which the condition holds."""
    where, axis = np.flatnonzero(condition), call.get("axis")
    return moved(m, lambda a: np.take(a, where, axis), x)


@meaning("ReverseSequence")
def reverse_sequence(m: Mathematics, call: Call, x: Any, lengths: Any) -> Any:
    """The first elements of each sequence backwards, as many as its length says."""
    shape = shape_of(m, x)
    time, batch = int(call.get("time_axis", 0)), int(call.get("batch_axis", 1))
    steps = np.arange(shape[time])[:, None]
    limits = integers(m, lengths)[None, :]
    order = np.where(steps < limits, limits - 1 - steps, steps)
    order = order if time < batch else order.T
    order = order.reshape([n if i in (time, batch) else 1 for i, n in enumerate(shape)])
    return moved(m, lambda a: np.take_along_axis(a, order, time), x)


@meaning("Pad")
def pad(m: Mathematics, call: Call, x: Any, pads: Any = None, fill: Any = None, axes: Any = None) -> Any:
    """More elements around: a constant, or copies of those inside."""
    rank = len(shape_of(m, x))
    amounts = numbers(m, call, "pads", pads)
    if amounts is None:
        amounts = [int(i) for i in call.attributes["paddings"]]
    widths = paddings(call, rank, amounts, None if axes is None else integer_list(m, axes))
    mode = call.get("mode", "constant")
    if mode == "constant":
        kind = kind_of(m, x)
        number = kind.constant(np.asarray(call.get("value", 0))) if fill is None else fill
        return kind.move(lambda a, f: filled(a, f, widths), x, number)
    if mode not in ("reflect", "edge", "wrap"):
        raise Unsupported("Pad", f"mode {mode}")

    def copied(a: Array) -> Array:
        for axis, (before, after) in enumerate(widths):
            where = np.pad(np.arange(a.shape[axis]), (max(before, 0), max(after, 0)), mode=mode)
            a = np.take(a, where[max(-before, 0) : len(where) - max(-after, 0)], axis)
        return a

    return moved(m, copied, x)


@meaning("Trilu")
def triangle(m: Mathematics, call: Call, x: Any, k: Any = None) -> Any:
    """The upper or lower triangle of matrices, zero elsewhere."""
    rows, columns = shape_of(m, x)[-2:]
    diagonal = 0 if k is None else integer_list(m, k)[0]
    offset = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    kept = offset >= diagonal if call.get("upper", 1) else offset <= diagonal
    kind = kind_of(m, x)
    zero = kind.constant(np.asarray(0.0)) if m.is_value(x) else np.zeros((), x.dtype)
    return kind.where(kept, x, zero)
