"""Digits against brute force: a set of digits is the partition of the elements that must be equal."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautomer.graph.digits import Digits

Array = np.ndarray


def classes(digits: Digits, size: int) -> Array:
    """The smallest index that each one turns into when the digits change: by the definition alone."""
    index = np.arange(size)
    for lo, hi in digits.intervals:
        index = index - (index // lo % (hi // lo)) * lo
    return index


def partition(labels: Array) -> list[int]:
    """The same list for the same partition, in the order of the elements."""
    first: dict[int, int] = {}
    return [first.setdefault(int(label), i) for i, label in enumerate(labels.reshape(-1))]


def joined(a: Array, b: Array) -> Array:
    """Equal labels for what either partition holds together."""
    labels = np.arange(a.size)
    while True:
        before = labels.copy()
        for part in (a, b):
            least = np.full(a.size, a.size)
            np.minimum.at(least, part, labels)
            labels = least[part]
        if np.array_equal(before, labels):
            return labels


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def all_digits(n: int) -> list[Digits]:
    found: dict[Digits, None] = {}
    inner = divisors(n)[1:-1]
    for count in range(len(inner) + 1):
        for chosen in combinations(inner, count):
            chain = [1, *chosen, n]
            if any(above % below for below, above in pairwise(chain)):
                continue
            pieces = [Digits(((lo, hi),)) for lo, hi in pairwise(chain)]
            for mask in range(1 << len(pieces)):
                met: Digits | None = Digits.EMPTY
                for i, piece in enumerate(pieces):
                    if mask >> i & 1:
                        assert met is not None
                        met = met.meet(piece)
                assert met is not None
                found[met] = None
    return list(found)


def shapes(n: int) -> list[tuple[int, ...]]:
    """All factorisations into at most three, ones included."""
    return [(a, b, n // a // b) for a in divisors(n) for b in divisors(n // a)] + [(n,)]


def test_names_of_the_usual_layouts() -> None:
    assert Digits.along((2, 5, 8), [-1]) == Digits(((1, 8),))
    assert Digits.along((2, 3, 4, 5), [1]) == Digits(((20, 60),))
    assert Digits.along((2, 3, 4, 5), [2, 3]) == Digits(((1, 20),))
    assert Digits.along((2, 5, 8), [0, 2]) == Digits(((1, 8), (40, 80)))
    assert Digits.along((2, 1, 8), [1]) == Digits.EMPTY
    assert Digits.along((), []) == Digits.EMPTY


def test_a_tensor_without_elements_has_none() -> None:
    assert Digits.along((2, 0, 8), [2]) is None
    assert Digits.EMPTY.per_axis((0,)) is None


def test_two_sets_of_digits_are_equal_exactly_when_their_families_are() -> None:
    families = [tuple(partition(classes(digits, 24))) for digits in all_digits(24)]
    assert len(set(families)) == len(families)


def test_the_meet_is_the_intersection_of_the_families_wherever_there_is_one() -> None:
    everything = all_digits(12)
    met, apart = 0, 0
    for a in everything:
        for b in everything:
            both = a.meet(b)
            if both is None:
                apart += 1
                continue
            met += 1
            expected = partition(joined(classes(a, 12), classes(b, 12)))
            assert partition(classes(both, 12)) == expected, (a, b)
    assert met > apart > 0


def test_within_means_that_the_other_family_is_part_of_this_one() -> None:
    everything = all_digits(16)
    for a in everything:
        for b in everything:
            other = classes(b, 16)
            part = all(len(set(other[classes(a, 16) == c])) == 1 for c in set(classes(a, 16)))
            assert a.within(b) == part, (a, b)


@pytest.mark.parametrize("size", [12, 16, 30])
def test_pieces_in_axes_and_back(size: int) -> None:
    for digits in all_digits(size):
        for shape in shapes(size):
            cut = digits.per_axis(shape)
            if cut is None:
                continue
            assert Digits.from_axes(shape, cut) == digits
            assert [digits.touches(shape, axis) for axis in range(len(shape))] == [bool(c) for c in cut]
            for axis, pieces in enumerate(cut):
                own = Digits(pieces)
                line = np.moveaxis(classes(digits, size).reshape(shape), axis, -1).reshape(-1, shape[axis])
                assert partition(line[0]) == partition(classes(own, shape[axis]))


def test_digits_that_cross_an_axis_are_cut_at_it() -> None:
    assert Digits(((2, 12),)).per_axis((4, 3, 4)) == ((), ((1, 3),), ((2, 4),))
    assert Digits(((2, 6),)).per_axis((3, 4)) is None
    assert Digits(((1, 24),)).per_axis((3, 4)) is None


def test_pieces_that_do_not_fit_their_axis_are_refused() -> None:
    assert Digits.from_axes((4, 6), ((), ((1, 4),))) is None
    assert Digits.from_axes((4, 6), ((), ((1, 12),))) is None
    assert Digits.from_axes((4, 6), ((),)) is None


def test_a_transpose_that_is_none_is_refused() -> None:
    assert Digits.EMPTY.transposed((2, 3), (0, 0)) is None
    assert Digits.EMPTY.transposed((2, 3), (0, 1, 2)) is None


@st.composite
def walks(draw: st.DrawFn) -> tuple[tuple[int, ...], list[int], list[tuple[int, ...] | list[int]]]:
    """A shape, some of its axes, and steps: a tuple is a shape to reshape to, a list a permutation."""
    primes = draw(st.lists(st.sampled_from([2, 2, 3, 5]), min_size=2, max_size=6))

    def grouped(factors: list[int]) -> tuple[int, ...]:
        ends = draw(st.lists(st.booleans(), min_size=len(factors), max_size=len(factors)))
        groups: list[list[int]] = [[]]
        for factor, end in zip(factors, ends, strict=True):
            groups[-1].append(factor)
            if end:
                groups.append([])
        return tuple(math.prod(group) for group in groups)

    shape = start = grouped(primes)
    axes = draw(st.lists(st.integers(0, len(shape) - 1), max_size=2, unique=True))
    steps: list[tuple[int, ...] | list[int]] = []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            order = list(draw(st.permutations(range(len(shape)))))
            steps.append(order)
            shape = tuple(shape[i] for i in order)
        else:
            shape = grouped(_factors(shape))
            steps.append(shape)
    return start, axes, steps


def _factors(shape: tuple[int, ...]) -> list[int]:
    """The prime factors of a shape, axis by axis, largest first in each."""
    factors = []
    for size in shape:
        for prime in (5, 3, 2):
            while size % prime == 0:
                factors.append(prime)
                size //= prime
    return factors


@settings(max_examples=300, deadline=None, derandomize=True)
@given(walks())
def test_a_shift_stays_in_its_family_through_reshapes_and_transposes(
    walk: tuple[tuple[int, ...], list[int], list[tuple[int, ...] | list[int]]],
) -> None:
    shape, axes, steps = walk
    digits = Digits.along(shape, axes)
    assert digits is not None
    shift = np.arange(math.prod(shape)).reshape(shape)
    for axis in axes:
        shift = shift - np.arange(shape[axis]).reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        ) * (math.prod(shape[axis + 1 :]))
    for step in steps:
        if isinstance(step, tuple):
            shift = shift.reshape(step)
        else:
            moved = digits.transposed(shift.shape, step)
            if moved is None:
                return
            digits, shift = moved, shift.transpose(step)
        assert digits.contains(shift)
        assert partition(shift) == partition(classes(digits, shift.size))


@pytest.mark.parametrize("size", [12, 16])
def test_contains_agrees_with_the_definition(size: int) -> None:
    everything = all_digits(size)
    for a in everything:
        for b in everything:
            assert a.contains(classes(b, size)) == a.within(b)


def test_a_tensor_of_nan_is_in_no_family_that_asks_for_anything() -> None:
    assert not Digits(((1, 4),)).contains(np.full(4, np.nan))


@pytest.mark.parametrize(
    "operand", [(2, 3, 4), (3, 4), (1, 3, 4), (2, 1, 4), (2, 3, 1), (4,), (1,), (), (1, 1, 1), (3, 1)]
)
def test_a_broadcast_operand_may_be_shifted_by_what_its_broadcast_may_be(operand: tuple[int, ...]) -> None:
    out = (2, 3, 4)
    for digits in all_digits(24):
        own = digits.broadcast_to_operand(out, operand)
        if own is None:
            assert digits.per_axis(out) is None
            continue
        shift = np.broadcast_to(classes(own, math.prod(operand)).reshape(operand), out)
        assert digits.contains(np.ascontiguousarray(shift))
        # and no more: with one digit less the broadcast would leave the family
        for fewer in all_digits(math.prod(operand)) if math.prod(operand) > 1 else []:
            if fewer.within(own) and fewer != own:
                wider = np.broadcast_to(classes(fewer, math.prod(operand)).reshape(operand), out)
                assert not digits.contains(np.ascontiguousarray(wider))


def test_an_operand_that_does_not_broadcast_is_refused() -> None:
    assert Digits(((1, 4),)).broadcast_to_operand((2, 4), (3, 4)) is None
    assert Digits(((1, 4),)).broadcast_to_operand((4,), (2, 4)) is None
