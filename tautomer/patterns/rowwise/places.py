"""Which of its numbers or rows an operand has for each row of x.

    for the row r of x    number or row   r // period mod count   of the operand

where the axes that the operand has of those before a row are next to each other in x: [B, 1, D] beside
[B, T, D] has the period T and the count B; [B, H, 1, 1] beside [B, H, Q, S] the period Q and the count B H.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tautomer.graph.fact import Shape

PLACED = ("block", "column")
"""The kinds of operands that have a place."""

Place = tuple[int, int]


def place_names(operands: Sequence[str], kinds: Sequence[str]) -> tuple[str, ...]:
    """What a kernel calls period and count of each operand that has a place, in their order."""
    placed = (name for name, kind in zip(operands, kinds, strict=True) if kind in PLACED)
    return tuple(f"{name}_{what}" for name in placed for what in ("period", "count"))


def places(kinds: Sequence[str], shapes: Sequence[Shape], x: Shape, axes: int) -> tuple[int, ...]:
    """Period and count of each operand that has a place, in their order.

    Args:
        kinds: of the operands.
        shapes: theirs, which broadcast to x's.
        x: the shape of x.
        axes: how many of its last axes make a row.
    """
    found = [place_of(shape, x, axes) for kind, shape in zip(kinds, shapes, strict=True) if kind in PLACED]
    return tuple(number for place in found for number in place or (1, 1))


def place_of(shape: Shape, onto: Shape, axes: int) -> Place | None:
    """(period, count) of a tensor beside one that it is broadcast to; None where it has no place.

    Args:
        shape: of the tensor.
        onto: of the other.
        axes: how many of its last axes make a row.
    """
    rows = onto[: len(onto) - axes]
    return spread(shape[: max(len(shape) - axes, 0)], rows)


def spread(shape: Shape, onto: Shape) -> Place | None:
    """(inner, middle) of a broadcast: element i of what it is broadcast to is element i // inner mod middle.

    None where the axes that it has are not next to each other.
    """
    lead = len(onto) - len(shape)
    if lead < 0:
        shape, lead = shape[-lead:] if prod(shape[:-lead]) == 1 else (0,), 0
    sizes = (1,) * lead + shape
    if len(sizes) != len(onto) or any(a not in (1, b) for a, b in zip(sizes, onto, strict=True)):
        return None
    there = [axis for axis, size in enumerate(sizes) if size != 1]
    if not there:
        return prod(onto), 1
    first, last = there[0], there[-1] + 1
    if sizes[first:last] != onto[first:last]:
        return None
    return prod(onto[last:]), prod(onto[first:last])
