"""Confirming y = f(x), element by element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.recognition.evaluation import FAILURES, FLOAT64, Program
from tautomer.patterns.recognition.match import Match, Refusal
from tautomer.patterns.recognition.probe import Array, far_points, points
from tautomer.patterns.recognition.readings import Reading
from tautomer.patterns.recognition.special_values import POINTS, special_points
from tautomer.patterns.rows import apply
from tautomer.patterns.weights import solved

# Float64 rounding of a dozen operations is below 1e-14; torch's softplus, which switches to x above 20, is
# off by 2e-9 in 20. The nearest miss known (a constant typed with 5 digits) is off by 3e-6.
RELATIVE = 5e-10
# 1 + erf(x) and 1 + tanh(x) lose all digits where they cancel: an absolute error of a few ulp of x.
ABSOLUTE = 1e-14
_MAX_CANDIDATES = 32
IDENTITY = Refusal("gives its input as it is")
_AT_A_CORNER = 1e-9  # where two sides meet the result jumps, or both are right


def confirm_pointwise(program: Program) -> Match | Refusal:
    """Compares a cone without row reductions with every pointwise definition."""
    if program.cone.leaves:
        return Refusal("has a tensor entering beside its input, and no pointwise operation takes one")
    if program.too_large:
        return Refusal("is too large to be evaluated")
    try:
        bends = corners(program.readings)
        near, far, odd, bent = (pointwise_values(program, x) for x in (points(), far_points(), POINTS, bends))
    except FAILURES as error:
        return Refusal(f"cannot be evaluated on its own: {error}")
    if near is None or far is None or odd is None or bent is None:
        return Refusal("changes the shape of its input")
    if np.array_equal(near, points()) and np.array_equal(far, far_points()):
        return IDENTITY
    best, distance = "", np.inf
    for definition in definitions():
        if definition.rows or definition.composite or definition.channels or definition.fit:
            continue
        for values in _candidates(definition, program.readings, near):
            expected = _expected(definition, values)
            if expected is None:
                continue
            gap = _gap(near, expected)
            if gap <= 1.0 and _agrees_far(far, expected.far):
                parameters = dict(zip(definition.parameters, values, strict=True))
                if not _agrees_at(bent, apply(definition, FLOAT64, bends, parameters=parameters)):
                    continue
                special = special_points(odd, apply(definition, FLOAT64, POINTS, parameters=parameters))
                return Match(definition, parameters, readings=program.readings, special=special)
            if gap < distance:
                best, distance = definition.op, gap
    return Refusal("computes another function", nearest=best if distance < 1e9 else "")


def corners(readings: tuple[Reading, ...]) -> Array:
    """Where the numbers of a cone are: on which side of a threshold the threshold is."""
    numbers = [reading.value for reading in readings if np.isfinite(reading.value)]
    return np.array([0.0, *(sign * number for number in numbers for sign in (1.0, -1.0))])


def _agrees_at(found: Array, expected: Array) -> bool:
    with np.errstate(all="ignore"):
        close = np.abs(found - expected) <= _AT_A_CORNER * (1.0 + np.abs(expected))
    return bool(np.all(close | ~np.isfinite(found)))


def pointwise_values(program: Program, x: Array) -> Array | None:
    """The cone at each point of x, or None when it is no function of one element."""
    shape = program.source_shape
    if not program.moves:
        probe = x.reshape((1,) * (len(shape) - 1) + (-1,)) if shape else x
        result = program(probe, ())
        if result.size != x.size:
            return None
        return result.reshape(-1)
    size = int(np.prod(shape))
    if size > 1 << 18:
        return None
    full = np.resize(x, max(size, 1))[:size].reshape(shape)
    result = program(full, ())
    if result.shape != full.shape:
        return None
    # every element must be the same function of its own place: run a second, shifted arrangement
    shifted = program(np.roll(full.reshape(-1), 1).reshape(shape), ())
    if not np.array_equal(np.roll(result.reshape(-1), 1), shifted.reshape(-1), equal_nan=True):
        return None
    if size < x.size:
        return _in_pieces(program, x, shape, size)
    return result.reshape(-1)[: x.size]


def _in_pieces(program: Program, x: Array, shape: tuple[int, ...], size: int) -> Array | None:
    if size == 0:
        return None
    padded = np.resize(x, -(-x.size // size) * size)
    pieces = [program(piece.reshape(shape), ()).reshape(-1) for piece in padded.reshape(-1, size)]
    return np.concatenate(pieces)[: x.size]


def _candidates(
    definition: Definition, readings: tuple[Reading, ...], near: Array
) -> Iterator[tuple[float, ...]]:
    """Parameter values worth trying: the default, the cone's numbers, what one operation makes of them."""
    if not definition.parameters:
        yield ()
        return
    if definition.weights:  # of a pointwise definition all parameters are, or none
        found = solved(
            definition, lambda w: apply(definition, FLOAT64, points(), parameters=w), near, readings
        )
        if found is not None:
            yield tuple(found[name] for name in definition.parameters)
        return
    numbers = [reading.value for reading in readings if np.isfinite(reading.value) and reading.value != 0.0]
    pool: dict[float, None] = dict.fromkeys(numbers)
    for value in numbers:
        pool.setdefault(-value)
        pool.setdefault(1.0 / value)
    for a in numbers:
        for b in numbers:
            pool.setdefault(a * b)
            pool.setdefault(a / b)
            pool.setdefault(1.0 - a)
    few = [value for value in pool if value != 0.0][:_MAX_CANDIDATES]
    choices = [[default, *few] for default in definition.parameters.values()]
    if len(choices) > 1:
        choices = [[default, *few[:12]] for default in definition.parameters.values()]
    yield from product(*choices)


@dataclass(frozen=True)
class _Expected:
    """What a definition gives at the points near zero and far from it, and how far off the near may be."""

    near: Array
    far: Array
    allowed: Array


@lru_cache(maxsize=4096)
def _values(key: str, function: Any, values: tuple[float, ...], names: tuple[str, ...]) -> _Expected | None:
    definition = next(d for d in definitions() if d.key == key)
    parameters = dict(zip(names, values, strict=True))
    near = np.asarray(apply(definition, FLOAT64, points(), parameters=parameters))
    far = np.asarray(apply(definition, FLOAT64, far_points(), parameters=parameters))
    if not np.all(np.isfinite(near)):
        return None
    return _Expected(near, far, RELATIVE * np.abs(near) + ABSOLUTE * (1.0 + np.abs(points())))


def _expected(definition: Definition, values: tuple[float, ...]) -> _Expected | None:
    return _values(definition.key, definition.function, values, tuple(definition.parameters))


def _gap(found: Array, expected: _Expected) -> float:
    """The largest deviation in units of the tolerance; infinite for NaN."""
    with np.errstate(all="ignore"):
        gap = float((np.abs(found - expected.near) / expected.allowed).max())
    return np.inf if np.isnan(gap) else gap


def _agrees_far(found: Array, expected: Array) -> bool:
    """Far from zero a naive spelling may overflow to inf or NaN; where it is finite it must agree."""
    with np.errstate(all="ignore"):
        close = np.abs(found - expected) <= RELATIVE * np.abs(expected) + 1e-9
    return bool(np.all(close | ~np.isfinite(found)))
