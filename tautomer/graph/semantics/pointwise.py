"""Functions of one number at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import kind_of
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.semantics.table import meaning, older


def _unary(op: str, method: str) -> None:
    def apply(m: Mathematics, call: Call, x: Any) -> Any:
        kind = kind_of(m, x)
        if not hasattr(kind, method):
            raise Unsupported(op, "of integers")
        return getattr(kind, method)(x)

    apply.__doc__ = f"{method}(x), element by element."
    meaning(op)(apply)


for _op, _method in (
    ("Exp", "exp"),
    ("Log", "log"),
    ("Sqrt", "sqrt"),
    ("Reciprocal", "reciprocal"),
    ("Erf", "erf"),
    ("Tanh", "tanh"),
    ("Sigmoid", "sigmoid"),
    ("Sin", "sin"),
    ("Cos", "cos"),
    ("Acos", "acos"),
    ("Atan", "atan"),
    ("Abs", "abs"),
    ("Sign", "sign"),
    ("Floor", "floor"),
    ("Ceil", "ceil"),
    ("Round", "round"),
):
    _unary(_op, _method)


@meaning("Tan")
def tangent(m: Mathematics, call: Call, x: Any) -> Any:
    """sin(x) / cos(x)."""
    return m.sin(x) / m.cos(x)


@meaning("Sinh")
def hyperbolic_sine(m: Mathematics, call: Call, x: Any) -> Any:
    """(e^x - e^-x) / 2, from e^x - 1 so that small x keep their digits."""
    return 0.5 * (m.expm1(x) - m.expm1(-x))


@meaning("Cosh")
def hyperbolic_cosine(m: Mathematics, call: Call, x: Any) -> Any:
    """(e^x + e^-x) / 2."""
    return 0.5 * m.exp(x) + 0.5 * m.exp(-x)


@meaning("Relu")
def relu(m: Mathematics, call: Call, x: Any) -> Any:
    """max(x, 0)."""
    return kind_of(m, x).maximum(x, 0)


@meaning("PRelu")
def prelu(m: Mathematics, call: Call, x: Any, slope: Any) -> Any:
    """max(x, 0) + slope * min(x, 0)."""
    kind = kind_of(m, x)
    shape, rank = kind.shape(slope), len(kind.shape(x))
    if older(call, 7) and shape != (1,):  # one slope per channel
        slope = kind.move(lambda s: s.reshape(shape + (1,) * (rank - 2)), slope)
    return kind.maximum(x, 0) + slope * kind.minimum(x, 0)


@meaning("Clip")
def clip(m: Mathematics, call: Call, x: Any, low: Any = None, high: Any = None) -> Any:
    """min(max(x, low), high); bounds are attributes below opset 11."""
    kind = kind_of(m, x)
    low = call.get("min") if low is None else low
    high = call.get("max") if high is None else high
    if low is not None:
        x = kind.maximum(x, low)
    return x if high is None else kind.minimum(x, high)


@meaning("Identity")
def identity(m: Mathematics, call: Call, x: Any) -> Any:
    """x."""
    return x


@meaning("Dropout")
def dropout(m: Mathematics, call: Call, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """x, and a mask that keeps everything: the inference form."""
    if training is not None and bool(np.any(training)):
        raise Unsupported("Dropout", "training mode")
    if call.outputs < 2:
        return x
    kept = np.ones(m.shape(x), dtype=bool)
    return x, m.constant(kept) if older(call, 10) else kept


@meaning("Where")
def where(m: Mathematics, call: Call, condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y."""
    return kind_of(m, x, y).where(condition, x, y)
