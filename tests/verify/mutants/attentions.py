"""Forms of softmax(Q K^T / sqrt(d) + mask) V; all give the same values.

softmax does not change when its argument is shifted, so any shift may be used as long as numerator and
denominator use the same. Two blocks may use their own, when the first is rescaled to that of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mutants.sketch import Sketch
from mutants.weights import HEAD, LENGTH

CUT = 2
SCALE = 1.0 / math.sqrt(HEAD)

Mix = Callable[[Sketch, str, str, str], str]
"""(masked scores, values) -> mixed values."""


def operator(g: Sketch, place: str, scores: str, values: str) -> str:
    """One Softmax node."""
    return g.op(
        "MatMul", g.op("Softmax", scores, at=f"{place}/softmax", axis=-1), values, at=f"{place}/mixed"
    )


def decomposed(g: Sketch, place: str, scores: str, values: str) -> str:
    """exp(s - max s) / sum."""
    top = g.op("ReduceMax", scores, [-1], at=f"{place}/top")
    shifted = g.op("Sub", scores, top, at=f"{place}/shifted")
    raised = g.op("Exp", shifted, at=f"{place}/raised")
    total = g.op("ReduceSum", raised, [-1], at=f"{place}/total")
    return g.op("MatMul", g.op("Div", raised, total, at=f"{place}/softmax"), values, at=f"{place}/mixed")


def base_two(g: Sketch, place: str, scores: str, values: str) -> str:
    """2^(log2(e) (s - max s)), divided by the sum after the product with the values."""
    top = g.op("ReduceMax", scores, [-1], at=f"{place}/top")
    shifted = g.op("Sub", scores, top, at=f"{place}/shifted")
    binary = g.op("Mul", shifted, math.log2(math.e), at=f"{place}/binary")
    base = g.constant(np.float32(2.0), f"{place}/base")
    raised = g.op("Pow", base, binary, at=f"{place}/raised")
    total = g.op("ReduceSum", raised, [-1], at=f"{place}/total")
    mixed = g.op("MatMul", raised, values, at=f"{place}/weighted")
    return g.op("Div", mixed, total, at=f"{place}/mixed")


def online(g: Sketch, place: str, scores: str, values: str) -> str:
    """Two blocks of keys; what the first gave is rescaled by e^(its maximum - the maximum of both)."""
    first = g.op("Slice", scores, [0], [CUT], [-1], at=f"{place}/first")
    second = g.op("Slice", scores, [CUT], [LENGTH], [-1], at=f"{place}/second")
    values1 = g.op("Slice", values, [0], [CUT], [-2], at=f"{place}/values1")
    values2 = g.op("Slice", values, [CUT], [LENGTH], [-2], at=f"{place}/values2")
    top1 = g.op("ReduceMax", first, [-1], at=f"{place}/top1")
    top2 = g.op("ReduceMax", second, [-1], at=f"{place}/top2")
    top = g.op("Max", top1, top2, at=f"{place}/top")
    raised1 = g.op("Exp", g.op("Sub", first, top1, at=f"{place}/shifted1"), at=f"{place}/raised1")
    raised2 = g.op("Exp", g.op("Sub", second, top, at=f"{place}/shifted2"), at=f"{place}/raised2")
    rescale = g.op("Exp", g.op("Sub", top1, top, at=f"{place}/drop"), at=f"{place}/rescale")
    total1 = g.op("ReduceSum", raised1, [-1], at=f"{place}/total1")
    total2 = g.op("ReduceSum", raised2, [-1], at=f"{place}/total2")
    mixed1 = g.op("MatMul", raised1, values1, at=f"{place}/mixed1")
    mixed2 = g.op("MatMul", raised2, values2, at=f"{place}/mixed2")
    kept_total = g.op("Mul", total1, rescale, at=f"{place}/kept_total")
    kept_mixed = g.op("Mul", mixed1, rescale, at=f"{place}/kept_mixed")
    total = g.op("Add", kept_total, total2, at=f"{place}/total")
    mixed = g.op("Add", kept_mixed, mixed2, at=f"{place}/sum")
    return g.op("Div", mixed, total, at=f"{place}/mixed")


@dataclass(frozen=True)
class Scaling:
    """Where the factor 1/sqrt(d) stands: on the queries, the keys, the scores, or split over two."""

    queries: float = 1.0
    keys: float = 1.0
    scores: float = SCALE

    def at(self, g: Sketch, what: str, value: str, place: str) -> str:
        """The value times its share."""
        factor = getattr(self, what)
        return value if factor == 1.0 else g.op("Mul", value, factor, at=f"{place}/{what}")


ON_SCORES = Scaling()
ON_QUERIES = Scaling(queries=SCALE, scores=1.0)
SPLIT = Scaling(queries=HEAD**-0.25, keys=HEAD**-0.25, scores=1.0)
