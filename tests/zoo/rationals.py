"""Rational functions in powers and by Horner's rule, with each kind of denominator."""

import numpy as np

from .case import Sketch
from .unary import Entry, near_misses, spellings

ABOVE, BELOW = (0.02, 0.5, 1.6, 1.2, 0.4, 0.03), (0.0, 0.1, -1.8, 0.2, 0.06)


def powers(s: Sketch, x: str, coefficients: tuple[float, ...], *, absolute: bool = False) -> str:
    terms = []
    for i, coefficient in enumerate(coefficients):
        if coefficient and i:
            term = s.Mul(s.Pow(x, float(i)) if i > 1 else x, coefficient)
            terms.append(s.Abs(term) if absolute else term)
    total = terms[0]
    for term in terms[1:]:
        total = s.Add(term, total)
    return s.Add(total, coefficients[0]) if coefficients[0] else total


def horner(s: Sketch, x: str, coefficients: tuple[float, ...]) -> str:
    total = s.Mul(x, coefficients[-1])
    for coefficient in coefficients[-2:0:-1]:
        total = s.Mul(s.Add(total, coefficient), x)
    return s.Add(total, coefficients[0]) if coefficients[0] else total


def of_sizes(x: np.ndarray) -> np.ndarray:
    below = sum(np.abs(b * x**j) for j, b in enumerate(BELOW))
    return sum(a * x**i for i, a in enumerate(ABOVE)) / (1 + below)


def of_a_size(x: np.ndarray, offset: float = 1.0) -> np.ndarray:
    return sum(a * x**i for i, a in enumerate(ABOVE)) / (
        offset + np.abs(sum(b * x**j for j, b in enumerate(BELOW)))
    )


def lifted(x: np.ndarray) -> np.ndarray:
    return (0.25 * x**3 + x) / (0.5 * x**2 + 2)


A = {"version": "A", "numerator": ABOVE, "denominator": BELOW, "offset": 1.0}
B = {"version": "B", "numerator": ABOVE, "denominator": BELOW, "offset": 1.0}
ENTRIES: dict[str, Entry] = {
    "sizes": lambda s, x: s.Div(powers(s, x, ABOVE), s.Add(powers(s, x, BELOW, absolute=True), 1.0)),
    "sum_by_horner": (
        lambda s, x: s.Div(horner(s, x, ABOVE), s.Add(1.0, s.Abs(horner(s, x, BELOW)))),
        {"attributes": B, "wanted": of_a_size},
    ),
    "reciprocal": (
        lambda s, x: s.Mul(powers(s, x, ABOVE), s.Reciprocal(s.Add(s.Abs(powers(s, x, BELOW)), 1.0))),
        {"attributes": B, "wanted": of_a_size},
    ),
    "small_offset": (
        lambda s, x: s.Div(powers(s, x, ABOVE), s.Add(s.Abs(powers(s, x, BELOW)), 0.1)),
        {"attributes": {**B, "offset": 0.1}, "wanted": lambda x: of_a_size(x, 0.1)},
    ),
    "nowhere_zero": (
        lambda s, x: s.Div(powers(s, x, (0.0, 1.0, 0.0, 0.25)), powers(s, x, (2.0, 0.0, 0.5))),
        {"attributes": {"version": "N", "offset": 2.0}, "wanted": lifted},
    ),
}
SPELLINGS = spellings("Rational", "rational", of_sizes, ENTRIES, A)

# what is divided by, and what is said of it
VANISHING = {
    "a polynomial": (lambda s, x: s.Add(powers(s, x, BELOW), 1.0), "a polynomial that is 0 near x = -0.6978"),
    "sizes alone": (lambda s, x: s.Abs(powers(s, x, BELOW)), "0 plus a size, which can be 0"),
    "less a number": (
        lambda s, x: s.Sub(s.Abs(powers(s, x, BELOW)), 0.5),
        "-0.5 plus a size, which can be 0",
    ),
}


def per_channel(s: Sketch, x: str) -> str:
    """Six channels, each with a slope of its own above, in a quotient that is one otherwise."""
    above = s.Add(s.Mul(x, s.const(np.linspace(0.5, 1.5, 6))), s.Mul(s.Mul(x, x), 0.25))
    return s.Div(above, s.Add(s.Abs(powers(s, x, BELOW)), 1.0))


NEAR_MISSES = near_misses(
    "Rational",
    "rational",
    {
        "of_what_vanishes": (
            lambda s, x: s.Div(powers(s, x, ABOVE), s.Add(powers(s, x, BELOW), 1.0)),
            "the denominator is 0 near -0.7",
        ),
        "per_channel": (per_channel, "a coefficient is one for each channel"),
        "root_below": (
            lambda s, x: s.Div(powers(s, x, ABOVE), s.Sqrt(s.Add(s.Mul(x, x), 1.0))),
            "the denominator is a root",
        ),
        "of_exponentials": (
            lambda s, x: s.Div(powers(s, x, ABOVE), s.Add(s.Abs(s.Exp(x)), 1.0)),
            "the denominator is no polynomial",
        ),
    },
)
