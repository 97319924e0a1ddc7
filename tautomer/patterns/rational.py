"""Rational (Pade) activations of any degree, their polynomials by Horner's rule.

    P(x) / Q(x), P(x) = sum_i numerator_i x^i, and Q as the version says

The versions are those of the reference code (rational_activations); C is B with another offset and with a
constant, and D is B in evaluation. Where a denominator can vanish there is no such operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tautomer.patterns.operation import Coefficients, Scalar, operation
from tautomer.patterns.rational_fit import fit_of_absolutes, fit_of_polynomial, fit_of_sum

SOURCE = "arXiv 1907.06732 (PAU)"
# A leaky ReLU, of the degrees that the reference code takes by default.
_ABOVE = (0.02996348, 0.61690165, 2.37539147, 3.06608078, 1.52474449, 0.25281987)
_BELOW = (0.0, 1.19160814, 4.40811795, 0.91111034, 0.34885983)


def horner(x: Any, coefficients: Sequence[Any]) -> Any:
    """sum_i coefficients_i x^i, the constant first."""
    result = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        absent = isinstance(coefficient, float) and coefficient == 0.0
        result = result * x if absent else result * x + coefficient
    return result


@operation("Rational", domain="tautomer", attributes={"version": "A"}, source=SOURCE, fit=fit_of_absolutes)
def rational_a(
    m: Any,
    x: Any,
    *,
    numerator: Coefficients = _ABOVE,
    denominator: Coefficients = _BELOW,
    offset: Scalar = 1.0,
) -> Any:
    """sum_i numerator_i x^i / (offset + sum_j |denominator_j x^j|)."""
    sizes = [abs(one) if isinstance(one, float) else m.abs(one) for one in denominator]
    return horner(x, numerator) / (offset + horner(m.abs(x), sizes))


@operation("Rational", domain="tautomer", attributes={"version": "B"}, source=SOURCE, fit=fit_of_sum)
def rational_b(
    m: Any,
    x: Any,
    *,
    numerator: Coefficients = _ABOVE,
    denominator: Coefficients = _BELOW,
    offset: Scalar = 1.0,
) -> Any:
    """sum_i numerator_i x^i / (offset + |sum_j denominator_j x^j|)."""
    return horner(x, numerator) / (offset + m.abs(horner(x, denominator)))


@operation("Rational", domain="tautomer", attributes={"version": "N"}, source=SOURCE, fit=fit_of_polynomial)
def rational_n(
    m: Any,
    x: Any,
    *,
    numerator: Coefficients = _ABOVE,
    denominator: Coefficients = (0.0, 0.0, 1.0),
    offset: Scalar = 1.0,
) -> Any:
    """sum_i numerator_i x^i / (offset + sum_j denominator_j x^j), a polynomial that is nowhere 0."""
    return horner(x, numerator) / (offset + horner(x, denominator))
