"""Exponentials of rows, each shifted by the row's maximum so that none overflows."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import operation


@operation("Softmax", rows="axis", since=13, source="ONNX Softmax-13")
def softmax(m: Any, x: Any) -> Any:
    """exp(x) / sum(exp(x)), over one axis."""
    e = m.exp(x - m.max(x))
    return e / m.sum(e)


@operation("SafeSoftmax", rows="axis", domain="tautomer", source="torch _safe_softmax", by_name=True)
def safe_softmax(m: Any, x: Any) -> Any:
    """exp(x) / sum(exp(x)), over one axis; 0 in rows where that is not a number, as where all is masked."""
    e = m.exp(x - m.max(x))
    total = m.sum(e)
    return m.where(m.isnan(total), 0.0, e / total)


@operation("LogSoftmax", rows="axis", since=13, source="ONNX LogSoftmax-13")
def log_softmax(m: Any, x: Any) -> Any:
    """x - log(sum(exp(x))), over one axis."""
    shifted = x - m.max(x)
    return shifted - m.log(m.sum(m.exp(shifted)))


@operation("ReduceLogSumExp", rows="folded", since=18, source="ONNX ReduceLogSumExp-18")
def log_sum_exp(m: Any, x: Any) -> Any:
    """log(sum(exp(x))), one number per row."""
    top = m.max(x)
    return m.log(m.sum(m.exp(x - top))) + top


@operation(
    "SoftmaxPlusOne", rows="axis", domain="tautomer", source="E. Miller, Attention Is Off By One (2023)"
)
def softmax_plus_one(m: Any, x: Any) -> Any:
    """exp(x) / (1 + sum(exp(x))), over one axis."""
    top = m.maximum(m.max(x), 0.0)
    e = m.exp(x - top)
    return e / (m.exp(0.0 - top) + m.sum(e))
