"""The coefficients of a rational function, from what its quotient and its absolute values are computed of.

The structure proposes where numerator and denominator are; which polynomials they are is fitted on points
between -1.7 and 1.7, and every coefficient must be a constant of the cone. The caller compares what is found
with the cone on other points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from tautomer.patterns.recognition.evaluation import Program
from tautomer.patterns.recognition.match import Refusal
from tautomer.patterns.recognition.probe import Array, tensor

Parameters = Mapping[str, Any]
HIGHEST = 12
_SPAN = 1.7
POINTS = _SPAN * np.cos(np.linspace(0.0, np.pi, 97)) * (1.0 - 1e-3)
_RESIDUAL = 1e-12  # of the largest value, in float64
# Of coefficients, whose powers have condition 1e4 on these points; constants of float32 are 1e-7 apart.
_NEAR = 1e-8


def fit_of_absolutes(program: Program) -> Parameters | Refusal | None:
    """P / (offset + sum_j |b_j x^j|): the terms are known by their sizes only, and x^0 is the offset."""
    return _fitted(program, "A")


def fit_of_sum(program: Program) -> Parameters | Refusal | None:
    """P / (offset + |S|), where S is all that an absolute value is taken of."""
    return _fitted(program, "B")


def fit_of_polynomial(program: Program) -> Parameters | Refusal | None:
    """P / Q with a polynomial Q that is nowhere 0."""
    return _fitted(program, "N")


def polynomial(x: Array, y: Array, numbers: Sequence[float]) -> tuple[float, ...] | None:
    """The coefficients of a polynomial through all points, the constant first, each one of some numbers."""
    largest = float(np.abs(y).max())
    for degree in range(HIGHEST + 1):
        fitted = Chebyshev.fit(x, y, degree, domain=[-_SPAN, _SPAN])
        if np.abs(np.asarray(fitted(x), np.float64) - y).max() <= _RESIDUAL * (1e-3 + largest):
            found = np.asarray(fitted.convert(kind=Polynomial).coef, np.float64)
            nearest = [_nearest(float(one), numbers) for one in found]
            allowed = _NEAR * (1.0 + np.abs(found).max())
            near = all(abs(a - b) <= allowed for a, b in zip(nearest, found, strict=True))
            return tuple(nearest) if near else None
    return None


def _nearest(value: float, numbers: Sequence[float]) -> float:
    return min(numbers, key=lambda number: abs(number - value))


def _fitted(program: Program, version: str) -> Parameters | Refusal | None:
    parts = _quotient(program)
    if parts is None:
        return None
    above, below, inside = parts
    varying = _leaf_numbers(program)
    known = [*(one.value for one in program.readings), *varying]
    numbers = [0.0, *(sign * one for one in known for sign in (1.0, -1.0))]
    numerator = polynomial(POINTS, above, numbers)
    if numerator is None:
        return None
    offset: float | None = None
    denominator: tuple[float, ...] | None = None
    if version == "N" and not inside:
        denominator = polynomial(POINTS, below, [*numbers, *_sums(numbers)])
    elif version == "B" and len(inside) == 1:
        denominator = polynomial(POINTS, inside[0], numbers)
        offset = _constant(below - np.abs(inside[0]), numbers)
    elif version == "A" and (inside := [one for one in inside if np.ptp(one) > 0.0]):
        terms = [polynomial(POINTS, one, numbers) for one in inside]
        if any(term is None or sum(map(bool, term)) != 1 for term in terms):
            return None
        longest = max(len(term) for term in terms if term is not None)
        padded = [(*term, *[0.0] * (longest - len(term))) for term in terms if term is not None]
        denominator = tuple(sum(column) for column in zip(*padded, strict=True))
        offset = _constant(below - np.abs(np.stack(inside)).sum(0), numbers)
    if denominator is None or len(numerator) < 2 or len(denominator) < 2:
        return None
    if varying:
        return _of_tensors(program)
    if version == "N":
        return _nowhere_zero(numerator, denominator)
    if offset is None:
        return None
    if offset <= 0.0:
        return Refusal(f"divides by {offset:g} plus a size, which can be 0", "Rational", certain=True)
    return {"numerator": numerator, "denominator": denominator, "offset": offset}


def _leaf_numbers(program: Program) -> list[float]:
    """A number for each side input: what is one coefficient for each channel is tried as one for all."""
    return [float(tensor((), index)) for index, _ in enumerate(program.leaf_shapes)]


def _of_tensors(program: Program) -> Refusal:
    """A rational function but for its coefficients."""
    name, shape = program.cone.leaves[0].name, list(program.leaf_shapes[0])
    reason = f"takes coefficients from '{name}' of shape {shape}, and each must be one constant number"
    hint = "share the coefficients among the channels, or apply a rational function to each group of them"
    return Refusal(reason, "Rational", certain=True, hint=hint)


def _nowhere_zero(numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Parameters | Refusal:
    roots = Polynomial(denominator).roots()
    real = sorted(float(root.real) for root in roots if abs(root.imag) <= 1e-6 * (1.0 + float(abs(root))))
    if real:
        nearest = min(real, key=abs)
        return Refusal(f"divides by a polynomial that is 0 near x = {nearest:.4g}", "Rational", certain=True)
    return {
        "numerator": numerator,
        "denominator": (0.0, *denominator[1:]),
        "offset": denominator[0],
    }


def _quotient(program: Program) -> tuple[Array, Array, list[Array]] | None:
    """Numerator, denominator, and what absolute values are taken of, at the points."""
    calls = program.calls
    if program.reduces or not calls or calls[-1].op_type not in ("Div", "Mul"):
        return None
    values = program.values_at(POINTS, [np.asarray(one) for one in _leaf_numbers(program)])
    if values is None:
        return None
    (first, second), inside = (
        values[-1],
        [read[0] for read, call in zip(values, calls, strict=True) if call.op_type == "Abs"],
    )
    if calls[-1].op_type == "Mul":
        if "Reciprocal" not in [call.op_type for call in calls]:
            return None
        with np.errstate(all="ignore"):
            second = 1.0 / second
    arrays = [first, second, *inside]
    if any(one.shape != POINTS.shape or not np.isfinite(one).all() for one in arrays):
        return None
    return first, second, inside


def _constant(values: Array, numbers: Sequence[float]) -> float | None:
    """The number of the cone that all values are."""
    nearest = _nearest(float(values.mean()), numbers)
    return nearest if np.abs(values - nearest).max() <= _NEAR else None


def _sums(numbers: Sequence[float]) -> list[float]:
    """1 plus a number: where the offset and the constant term are two."""
    return [1.0 + number for number in numbers]
