"""Forms of a LayerNorm and of the linear maps around it; all give the same logits.

    LN(x) = (x - mean x) / sqrt(mean (x - mean x)^2 + eps) * gain + bias

On a stream that is already centred, x - mean x = x. Every writer of the stream is linear, so it can be
centred instead: its columns, its bias, the rows of its tables.
"""

from __future__ import annotations

from typing import Any

from mutants.sketch import Sketch
from mutants.weights import WIDTH

EPSILON = 1e-5


class Norm:
    """How a stream is written, normalised and read; the base leaves writers and readers alone."""

    def writer(self, g: Sketch, place: str, weight: str) -> str:
        """What a table, a matrix or a bias that writes to the stream becomes."""
        return weight

    def norm(self, g: Sketch, place: str, x: str, gain: str, bias: str) -> Any:
        """What readers get."""
        gained = g.op("Mul", self.unit(g, place, x), gain, at=f"{place}/gained")
        return g.op("Add", gained, bias, at=f"{place}/out")

    def unit(self, g: Sketch, place: str, x: str) -> str:
        """The normalised stream without gain and bias."""
        raise NotImplementedError

    def linear(self, g: Sketch, place: str, x: Any, weight: str, bias: str | None) -> str:
        """A linear map of what `norm` gave."""
        product = g.op("MatMul", x, weight, at=f"{place}/product")
        return g.op("Add", product, bias, at=f"{place}/out") if bias else product


class Operator(Norm):
    """One node."""

    def norm(self, g: Sketch, place: str, x: str, gain: str, bias: str) -> str:
        return g.op("LayerNormalization", x, gain, bias, at=f"{place}/out", epsilon=EPSILON, axis=-1)


class Decomposed(Norm):
    """(x - m) / sqrt(v + eps), step by step."""

    def unit(self, g: Sketch, place: str, x: str) -> str:
        mean = g.op("ReduceMean", x, [-1], at=f"{place}/mean")
        centred = g.op("Sub", x, mean, at=f"{place}/centred")
        square = g.op("Mul", centred, centred, at=f"{place}/square")
        variance = g.op("ReduceMean", square, [-1], at=f"{place}/variance")
        steady = g.op("Add", variance, EPSILON, at=f"{place}/steady")
        root = g.op("Sqrt", steady, at=f"{place}/root")
        return g.op("Div", centred, root, at=f"{place}/unit")


class Moments(Norm):
    """v = mean x^2 - m^2, and a product with the reciprocal root."""

    def unit(self, g: Sketch, place: str, x: str) -> str:
        mean = g.op("ReduceMean", x, [-1], at=f"{place}/mean")
        square = g.op("Mul", x, x, at=f"{place}/square")
        second = g.op("ReduceMean", square, [-1], at=f"{place}/second")
        squared = g.op("Mul", mean, mean, at=f"{place}/squared")
        variance = g.op("Sub", second, squared, at=f"{place}/variance")
        steady = g.op("Add", variance, EPSILON, at=f"{place}/steady")
        root = g.op("Sqrt", steady, at=f"{place}/root")
        scale = g.op("Reciprocal", root, at=f"{place}/scale")
        centred = g.op("Sub", x, mean, at=f"{place}/centred")
        return g.op("Mul", centred, scale, at=f"{place}/unit")


class Recentred(Norm):
    """x / sqrt(mean x^2 + eps) on a stream whose writers are centred."""

    def writer(self, g: Sketch, place: str, weight: str) -> str:
        mean = g.op("ReduceMean", weight, [-1], at=f"{place}/mean")
        return g.op("Sub", weight, mean, at=f"{place}/centred")

    def unit(self, g: Sketch, place: str, x: str) -> str:
        square = g.op("Mul", x, x, at=f"{place}/square")
        power = g.op("ReduceMean", square, [-1], at=f"{place}/power")
        steady = g.op("Add", power, EPSILON, at=f"{place}/steady")
        root = g.op("Sqrt", steady, at=f"{place}/root")
        return g.op("Div", x, root, at=f"{place}/unit")


class RecentredOperator(Recentred):
    """The same as one RMSNormalization and the bias."""

    def norm(self, g: Sketch, place: str, x: str, gain: str, bias: str) -> str:
        gained = g.op("RMSNormalization", x, gain, at=f"{place}/gained", epsilon=EPSILON, axis=-1)
        return g.op("Add", gained, bias, at=f"{place}/out")


class Folded(Recentred):
    """(u * gain + bias) W + b = u (gain W) + (bias W + b)."""

    def norm(self, g: Sketch, place: str, x: str, gain: str, bias: str) -> tuple[str, str, str]:
        return self.unit(g, place, x), gain, bias

    def linear(self, g: Sketch, place: str, x: tuple[str, str, str], weight: str, bias: str | None) -> str:
        unit, gain, shift = x
        column = g.op("Unsqueeze", gain, [1], at=f"{place}/column")
        product = g.op("MatMul", unit, self.fold(g, place, column, weight), at=f"{place}/product")
        moved = g.op("MatMul", shift, weight, at=f"{place}/moved")
        total = g.op("Add", moved, bias, at=f"{place}/total") if bias else moved
        return g.op("Add", product, total, at=f"{place}/out")

    def fold(self, g: Sketch, place: str, column: str, weight: str) -> str:
        """The matrix with the gain in it."""
        return g.op("Mul", column, weight, at=f"{place}/folded")


class Compressed(Folded):
    """The last coordinate of a centred stream is minus the sum of the others, so it is not kept.

    mean x^2 = (sum of squares + square of the sum) / d, and u W = u' (W without its last row - that row).
    """

    def writer(self, g: Sketch, place: str, weight: str) -> str:
        centred = super().writer(g, place, weight)
        return g.op("Slice", centred, [0], [WIDTH - 1], [-1], at=f"{place}/short")

    def unit(self, g: Sketch, place: str, x: str) -> str:
        squares = g.op("ReduceSumSquare", x, [-1], at=f"{place}/squares")
        total = g.op("ReduceSum", x, [-1], at=f"{place}/sum")
        last = g.op("Mul", total, total, at=f"{place}/last")
        both = g.op("Add", squares, last, at=f"{place}/both")
        power = g.op("Div", both, float(WIDTH), at=f"{place}/power")
        steady = g.op("Add", power, EPSILON, at=f"{place}/steady")
        root = g.op("Sqrt", steady, at=f"{place}/root")
        return g.op("Div", x, root, at=f"{place}/unit")

    def fold(self, g: Sketch, place: str, column: str, weight: str) -> str:
        whole = super().fold(g, place, column, weight)
        others = g.op("Slice", whole, [0], [WIDTH - 1], [0], at=f"{place}/others")
        row = g.op("Slice", whole, [WIDTH - 1], [WIDTH], [0], at=f"{place}/row")
        return g.op("Sub", others, row, at=f"{place}/short")
