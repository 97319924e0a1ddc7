"""Along which digits of its flat index a tensor is constant.

Write the row-major flat index of an element in mixed radix. For lo | hi the digit between lo and hi is
(index // lo) % (hi // lo), and a set of intervals [lo, hi) whose boundaries form a divisibility chain names a
set of digits. A tensor s belongs to the family of such a set when s(index) does not change with these digits;
with all others it may change at will. Constant along the last axis of [b, t, d] is {[1, d)}, along the
channels of [n, c, h, w] it is {[hw, chw)}, along the rows of heads of 16 it is {[1, 16)}.

A reshape does not move elements, so it leaves a set of digits as it is; a transpose moves pieces between the
boundaries of axes. Fewer digits are a larger family; no digits are all tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tautomer.graph.fact import Shape, elements

Interval = tuple[int, int]
Local = tuple[Interval, ...]  # digits of one axis, counted in its own index


@dataclass(frozen=True, slots=True)
class Digits:
    """A set of digits of a flat index, and the family of the tensors that are constant along them.

    Attributes:
        intervals: disjoint [lo, hi) with lo < hi, ascending, none adjacent; the boundaries form a chain of
            divisors.
    """

    intervals: tuple[Interval, ...] = ()

    EMPTY: ClassVar[Digits]

    def __bool__(self) -> bool:
        """False when every tensor is in the family."""
        return bool(self.intervals)

    @staticmethod
    def along(shape: Shape, axes: Iterable[int]) -> Digits | None:
        """Constant along these axes; None for a tensor without elements."""
        whole: list[Local] = [()] * len(shape)
        for axis in axes:
            whole[axis] = ((1, shape[axis]),) if shape[axis] > 1 else ()
        return Digits.from_axes(shape, whole)

    @staticmethod
    def from_axes(shape: Shape, local: Sequence[Local]) -> Digits | None:
        """The digits that have these pieces in each axis; None where a piece does not fit into its axis."""
        if 0 in shape or len(shape) != len(local):
            return None
        intervals: list[Interval] = []
        stride = 1
        for size, pieces in zip(reversed(shape), reversed(local), strict=True):
            if pieces and (pieces[-1][1] > size or not _is_chain({1, size}.union(*pieces))):
                return None
            intervals += [(lo * stride, hi * stride) for lo, hi in pieces]
            stride *= size
        return Digits(_joined(intervals))

    def meet(self, other: Digits) -> Digits | None:
        """The tensors that are in both families; None when no set of digits says which those are."""
        if self.intervals == other.intervals or not other.intervals:
            return self
        if not self.intervals:
            return other
        if not _is_chain({1}.union(*self.intervals, *other.intervals)):
            return None
        return Digits(_joined([*self.intervals, *other.intervals]))

    def within(self, other: Digits) -> bool:
        """Whether these digits are among the others: the family of the others is part of this one."""
        return self.meet(other) == other

    def per_axis(self, shape: Shape) -> tuple[Local, ...] | None:
        """The pieces in each axis, in the axis' own index.

        None when the boundaries of axes and intervals together form no chain of divisors, or when the tensor
        has no elements.
        """
        return _cut(self.intervals, shape)

    def touches(self, shape: Shape, axis: int) -> bool:
        """Whether a digit of this axis is among them, be it in part."""
        stride = elements(shape[axis:][1:])
        return any(lo < stride * shape[axis] and hi > stride for lo, hi in self.intervals)

    def transposed(self, shape: Shape, perm: Sequence[int]) -> Digits | None:
        """These digits of a tensor of this shape, as digits of its transpose."""
        cut = self.per_axis(shape)
        if cut is None or sorted(perm) != list(range(len(shape))):
            return None
        return Digits.from_axes(tuple(shape[i] for i in perm), [cut[i] for i in perm])

    def broadcast_to_operand(self, out: Shape, operand: Shape) -> Digits | None:
        """What an operand must be constant along, for its broadcast to be constant along these digits.

        Axes that it lacks or has with size 1 drop out: there its broadcast is constant by itself.
        """
        if operand == out:
            return self
        lead = len(out) - len(operand)
        if lead >= 0 and elements(operand) == 1:
            return Digits.EMPTY
        cut = self.per_axis(out)
        if cut is None or lead < 0:
            return None
        own: list[Local] = []
        for axis, size in enumerate(operand, lead):
            if size not in (1, out[axis]):
                return None
            own.append(cut[axis] if size == out[axis] else ())
        return Digits.from_axes(operand, own)

    def contains(self, array: NDArray[Any]) -> bool:
        """Whether the tensor is in the family. A NaN is equal to nothing."""
        chain = sorted({1, array.size}.union(*self.intervals))
        if array.size == 0 or not _is_chain(chain):
            return False
        sizes = [above // below for below, above in pairwise(chain)]
        digits = array.reshape(sizes[::-1])
        named = [
            any(lo <= below and above <= hi for lo, hi in self.intervals) for below, above in pairwise(chain)
        ]
        first = digits[tuple(slice(0, 1) if here else slice(None) for here in named[::-1])]
        return bool(np.all(digits == first))


Digits.EMPTY = Digits()


def _is_chain(boundaries: Iterable[int]) -> bool:
    """Whether each divides the next larger one."""
    return all(above % below == 0 for below, above in pairwise(sorted(boundaries)))


def _joined(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """The union, as disjoint intervals none of which are adjacent."""
    joined: list[Interval] = []
    for lo, hi in sorted(intervals):
        if joined and lo <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(hi, joined[-1][1]))
        else:
            joined.append((lo, hi))
    return tuple(joined)


@lru_cache(maxsize=1 << 14)  # a model asks the same of every layer
def _cut(intervals: tuple[Interval, ...], shape: Shape) -> tuple[Local, ...] | None:
    if 0 in shape:
        return None
    strides = [1]
    for size in reversed(shape):
        strides.append(strides[-1] * size)
    if intervals and (intervals[-1][1] > strides[-1] or not _is_chain({*strides}.union(*intervals))):
        return None
    axes: list[Local] = []
    for size, stride in zip(shape, reversed(strides[:-1]), strict=True):
        top = stride * size
        pieces = [(max(lo, stride), min(hi, top)) for lo, hi in intervals if lo < top and hi > stride]
        axes.append(tuple((lo // stride, hi // stride) for lo, hi in pieces))
    return tuple(axes)
