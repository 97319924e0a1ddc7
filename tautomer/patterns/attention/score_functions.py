"""Score functions: what attention makes of the scores of one query before it sums the values.

    result[i] = sum over keys j of weight[i, j] * v[j]

A score function is the mathematics of one weight, and how weights of different keys depend on each other;
that decides how a kernel can go over the keys in blocks:

    exponential   w = e^s / (sum of e^s), s shifted by a running maximum when it is computed in blocks
    pointwise     w = f(s): each weight alone
    summed        w = f(s) / (sum of f(s))
    two sweeps    a = f(s) / (sum of f(s)), then w = g(n a - offset) / (sum of g): the first sum has to be
                  known before the first weight is

Kernels, the oracle of their tests, their gradients and the function body of the operator all come from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tautomer.patterns.rectifiers import relu, squared_relu
from tautomer.patterns.smooth import sigmoid, softplus

Kind = Literal["exponential", "pointwise", "summed", "two sweeps"]


@dataclass(frozen=True)
class ScoreFunction:
    """A score function.

    Attributes:
        name: as the operator's attribute `score` has it.
        formula: in words of mathematics, for the documentation.
        source: the paper of the formula.
        kind: see above.
        weight: f(m, s), the weight of one score before any division. Of an exponential it gets s less the
            row's maximum.
        extra: of an exponential, the score of one more key whose value is 0, which the maximum and the sum
            start from; None where there is no such key. A learned one per head ("sink") takes its place.
        second: g(m, x, power), of what is swept twice.
    """

    name: str
    formula: str
    source: str
    kind: Kind
    weight: Callable[[Any, Any], Any]
    extra: float | None = None
    second: Callable[[Any, Any, int], Any] | None = None


def _exponential(m: Any, s: Any) -> Any:
    return m.exp(s)


def _rectified_power(m: Any, x: Any, power: int) -> Any:
    return m.power(m.maximum(x, 0.0), power)


_ALL = (
    ScoreFunction("softmax", "e^s / sum(e^s)", "arXiv 1706.03762", "exponential", _exponential),
    ScoreFunction(
        "softmax1",
        "e^s / (e^c + sum(e^s)), c = 0 or learned for each head",
        "E. Miller, Attention Is Off By One (2023); arXiv 2508.10925 (learned)",
        "exponential",
        _exponential,
        extra=0.0,
    ),
    ScoreFunction("sigmoid", "1 / (1 + e^-s)", "arXiv 2409.04431", "pointwise", sigmoid),
    ScoreFunction("relu", "max(s, 0)", "arXiv 2309.08586", "pointwise", relu),
    ScoreFunction("relu2", "max(s, 0)^2", "arXiv 2109.08668", "pointwise", squared_relu),
    ScoreFunction("softplus", "log(1 + e^s) / sum(log(1 + e^s))", "arXiv 2501.13428", "summed", softplus),
    ScoreFunction(
        "softplus_reweighted",
        "b / sum(b), b = max(n a - o, 0)^p, a = log(1 + e^s) / sum(log(1 + e^s)), n the row's keys",
        "arXiv 2501.13428",
        "two sweeps",
        softplus,
        second=_rectified_power,
    ),
)

SCORE_FUNCTIONS = {function.name: function for function in _ALL}


# what overflows or divides by 0 is a result, in numpy as in other domains
@np.errstate(all="ignore")
def weights_of(
    m: Any,
    function: ScoreFunction,
    scores: Any,
    *,
    extra: Any = None,
    keys: Any = None,
    offset: Any = 1.0,
    power: int = 1,
    empty_is_zero: bool = False,
) -> Any:
    """The weights that a score function makes of scores, over the last axis.

    Args:
        m: the mathematics.
        function: the score function.
        scores: of any shape; -inf removes a key.
        extra: the score of the key without a value; None for the function's own.
        keys: how many keys each row has, where the function is swept twice; broadcasts against the scores.
        offset: what is subtracted before the second weight; broadcasts against the scores.
        power: of the second weight.
        empty_is_zero: whether weights that add up to 0 stay 0, instead of being divided by it, which is NaN.
    """
    axes = (len(m.shape(scores)) - 1,)

    def shares(weights: Any, total: Any, value: Any, of_nothing: float) -> Any:
        parts = weights / total
        return m.where(m.compare("==", value, of_nothing), 0.0, parts) if empty_is_zero else parts

    if function.kind == "exponential":
        top, more = m.amax(scores, axes, True), function.extra if extra is None else extra
        if more is not None:
            top = m.maximum(top, more)
        weights = function.weight(m, scores - top)
        total = m.sum(weights, axes, True)
        total = total if more is None else total + m.exp(more - top)
        return shares(weights, total, top, -np.inf)
    weights = function.weight(m, scores)
    if function.kind == "pointwise":
        return weights
    total = m.sum(weights, axes, True)
    weights = shares(weights, total, total, 0.0)
    if function.second is not None:
        weights = function.second(m, weights * keys - offset, power)
        total = m.sum(weights, axes, True)
        weights = shares(weights, total, total, 0.0)
    return weights
