"""Near misses, written down like definitions: what people and exporters write that is almost an operation.

They are never recognised. When a cone is refused, the near miss that it does compute is the true reason, in
words: "epsilon is added outside the root" instead of "computes another function".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NearMiss:
    """Something close to an operation.

    Attributes:
        op: the operation it resembles.
        reason: what is different, as the end of "it ...".
        function: `function(m, x, number)` where number is one of the cone's constants, or 0.
        rows: whether it works on rows.
        folded: whether it gives one number per row.
    """

    op: str
    reason: str
    function: Callable[[Any, Any, float], Any]
    rows: bool = True


def _centred(m: Any, x: Any) -> Any:
    return x - m.mean(x)


def _length(m: Any, x: Any) -> Any:
    return m.sum(x * 0.0 + 1.0)


def _row_misses(op: str, centre: Callable[[Any, Any], Any]) -> tuple[NearMiss, ...]:
    """The misses that LayerNormalization and RMSNormalization share; c is x, centred or not."""

    def miss(reason: str, of: Callable[[Any, Any, float, Any], Any]) -> NearMiss:
        return NearMiss(op, reason, lambda m, x, e: of(m, x, e, centre(m, x)))

    return (
        miss("adds epsilon outside the root", lambda m, x, e, c: c / (m.sqrt(m.mean(c * c)) + e)),
        miss(
            "divides the sum of squares by d - 1 instead of d",
            lambda m, x, e, c: c * m.rsqrt(m.sum(c * c) / (_length(m, x) - 1.0) + e),
        ),
        miss(
            "divides the sum of squares by d + 1 instead of d",
            lambda m, x, e, c: c * m.rsqrt(m.sum(c * c) / (_length(m, x) + 1.0) + e),
        ),
        miss(
            "takes the sum of squares instead of their mean", lambda m, x, e, c: c * m.rsqrt(m.sum(c * c) + e)
        ),
        miss("takes no square root", lambda m, x, e, c: c / (m.mean(c * c) + e)),
        miss("takes absolute values instead of squares", lambda m, x, e, c: c / (m.mean(m.abs(c)) + e)),
        miss(
            "roots absolute values instead of squares", lambda m, x, e, c: c * m.rsqrt(m.mean(m.abs(c)) + e)
        ),
        miss("raises to the power 3 instead of 2", lambda m, x, e, c: c / m.sqrt(m.mean(c * c * c) + e)),
        miss("raises to the power 4 instead of 2", lambda m, x, e, c: c / m.sqrt(m.mean(c * c * c * c) + e)),
        miss(
            "divides the root by x instead of x by the root", lambda m, x, e, c: m.sqrt(m.mean(c * c) + e) / c
        ),
        miss("has its sign reversed", lambda m, x, e, c: -c * m.rsqrt(m.mean(c * c) + e)),
        miss("multiplies by the root instead of dividing", lambda m, x, e, c: c * m.sqrt(m.mean(c * c) + e)),
    )


def _exp_rows(m: Any, x: Any, base: float) -> Any:
    return m.exp((x - m.max(x)) * math.log(base))


ROW_MISSES: tuple[NearMiss, ...] = (
    *_row_misses("LayerNormalization", _centred),
    NearMiss(
        "LayerNormalization",
        "does not subtract the mean in the numerator",
        lambda m, x, e: x * m.rsqrt(m.mean(_centred(m, x) * _centred(m, x)) + e),
    ),
    NearMiss(
        "LayerNormalization",
        "does not subtract the mean under the root",
        lambda m, x, e: _centred(m, x) * m.rsqrt(m.mean(x * x) + e),
    ),
    *_row_misses("RMSNormalization", lambda m, x: x),
    NearMiss(
        "Softmax",
        "has base 2 instead of e",
        lambda m, x, e: _exp_rows(m, x, 2.0) / m.sum(_exp_rows(m, x, 2.0)),
    ),
    NearMiss(
        "Softmax", "divides by the mean instead of the sum", lambda m, x, e: m.exp(x) / m.mean(m.exp(x))
    ),
    NearMiss(
        "Softmax",
        "subtracts the maximum in the numerator only",
        lambda m, x, e: m.exp(x - m.max(x)) / m.sum(m.exp(x)),
    ),
    NearMiss(
        "Softmax",
        "subtracts the maximum in the denominator only",
        lambda m, x, e: m.exp(x) / m.sum(m.exp(x - m.max(x))),
    ),
    NearMiss("Softmax", "adds a constant to the sum", lambda m, x, e: m.exp(x) / (m.sum(m.exp(x)) + e)),
    NearMiss(
        "Softmax",
        "adds a constant to the shifted sum, so it depends on the shift",
        lambda m, x, e: m.exp(x - m.max(x)) / (m.sum(m.exp(x - m.max(x))) + e),
    ),
)

POINT_MISSES: tuple[NearMiss, ...] = (
    NearMiss(
        "Gelu",
        "has {number!r} where 1/sqrt(2) rounds to another number",
        lambda m, x, c: x * 0.5 * (1.0 + m.erf(x * c)),
        rows=False,
    ),
    NearMiss(
        "Gelu",
        "has sqrt(2) typed as {number!r}",
        lambda m, x, c: x * 0.5 * (1.0 + m.erf(x / c)),
        rows=False,
    ),
    NearMiss(
        "Gelu", "lacks the factor 1/2", lambda m, x, c: x * (1.0 + m.erf(x * math.sqrt(0.5))), rows=False
    ),
    NearMiss(
        "Gelu",
        "has {number!r} where 0.044715 belongs",
        lambda m, x, c: x * 0.5 * (1.0 + m.tanh(math.sqrt(2.0 / math.pi) * (x + c * x * x * x))),
        rows=False,
    ),
    NearMiss(
        "Gelu",
        "has {number!r} where sqrt(2/pi) belongs",
        lambda m, x, c: x * 0.5 * (1.0 + m.tanh(c * (x + 0.044715 * x * x * x))),
        rows=False,
    ),
    NearMiss("Swish", "has the sigmoid of -x", lambda m, x, c: x * m.sigmoid(-x), rows=False),
)
