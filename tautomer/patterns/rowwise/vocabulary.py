"""What the bodies of rowwise operators are made of: the primitive operators that kernels have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

POINTWISE = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Sum", "Mean", "Pow", "Sqrt", "Reciprocal"),
        *("Exp", "Log", "Erf", "Tanh", "Sigmoid", "Relu", "Clip", "Where", "Identity"),
        *("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "IsNaN"),
    }
)
"""Primitive operators that may stand in a body; operations that have a pointwise definition may, too."""

REDUCTIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "ReduceSum": lambda m, x: m.sum(x),
    "ReduceMean": lambda m, x: m.mean(x),
    "ReduceMax": lambda m, x: m.max(x),
    "ReduceMin": lambda m, x: -m.max(-x),
    "ReduceSumSquare": lambda m, x: m.sum(x * x),
    "ReduceL1": lambda m, x: m.sum(m.abs(x)),
    "ReduceL2": lambda m, x: m.sqrt(m.sum(x * x)),
    "ReduceLogSum": lambda m, x: m.log(m.sum(x)),
    "ReduceLogSumExp": lambda m, x: _log_sum_exp(m, x),
}
"""What is reduced over a row."""

TWICE = frozenset({"ReduceLogSumExp"})
"""Those of them that wait for another reduction of the same values."""

_LARGEST_POWER = 64


def _log_sum_exp(m: Any, x: Any) -> Any:
    """log(sum(exp(x))); the maximum itself where it is infinite, as of rows that are masked."""
    top = m.max(x)
    return m.where(m.isinf(top), top, m.log(m.sum(m.exp(x - top))) + top)


def small_power(exponent: float) -> bool:
    """Whether a power is one that a kernel computes by products and a root."""
    return abs(exponent) == 0.5 or (exponent % 1.0 == 0.0 and 0.0 < abs(exponent) <= _LARGEST_POWER)
