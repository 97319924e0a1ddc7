"""Forms of GELU(x) = x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3); all give the same values.

(1 + tanh u) / 2 = sigmoid(2u), and sigmoid(2u) = (1 + tanh u) / 2 the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mutants.sketch import Sketch

Activation = Callable[[Sketch, str, str], str]


def operator(g: Sketch, place: str, x: str) -> str:
    """One node."""
    return g.op("Gelu", x, at=f"{place}/out", approximate="tanh")


def _inner(g: Sketch, place: str, x: str, factor: float) -> str:
    square = g.op("Mul", x, x, at=f"{place}/square")
    cube = g.op("Mul", square, x, at=f"{place}/cube")
    bent = g.op("Mul", cube, 0.044715, at=f"{place}/bent")
    inner = g.op("Add", x, bent, at=f"{place}/inner")
    return g.op("Mul", inner, factor, at=f"{place}/scaled")


def by_tanh(g: Sketch, place: str, x: str) -> str:
    """The formula as it stands."""
    bounded = g.op("Tanh", _inner(g, place, x, math.sqrt(2 / math.pi)), at=f"{place}/tanh")
    raised = g.op("Add", bounded, 1.0, at=f"{place}/raised")
    whole = g.op("Mul", x, raised, at=f"{place}/whole")
    return g.op("Mul", whole, 0.5, at=f"{place}/out")


def by_sigmoid(g: Sketch, place: str, x: str) -> str:
    """x sigmoid(2u)."""
    gate = g.op("Sigmoid", _inner(g, place, x, 2 * math.sqrt(2 / math.pi)), at=f"{place}/gate")
    return g.op("Mul", x, gate, at=f"{place}/out")


def by_exp(g: Sketch, place: str, x: str) -> str:
    """x / (1 + e^(-2u))."""
    negative = g.op("Neg", _inner(g, place, x, 2 * math.sqrt(2 / math.pi)), at=f"{place}/negative")
    below = g.op("Add", g.op("Exp", negative, at=f"{place}/exp"), 1.0, at=f"{place}/below")
    return g.op("Div", x, below, at=f"{place}/out")
