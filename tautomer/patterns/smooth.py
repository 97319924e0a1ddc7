"""Smooth activations built on the exponential."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import Scalar, operation


def _softplus(m: Any, x: Any) -> Any:
    # exp of a negative number only: exp(x) itself overflows where log(1 + exp(x)) is just x
    return m.maximum(x, 0.0) + m.log1p(m.exp(-m.abs(x)))


@operation("Sigmoid", since=6, source="ONNX Sigmoid-13")
def sigmoid(m: Any, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return m.sigmoid(x)


@operation("Tanh", since=6, source="ONNX Tanh-13")
def tanh(m: Any, x: Any) -> Any:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return m.tanh(x)


@operation("Swish", since=24, source="arXiv 1710.05941; ONNX Swish-24")
def swish(m: Any, x: Any, *, alpha: Scalar = 1.0) -> Any:
    """x * sigmoid(alpha * x)."""
    return x * m.sigmoid(alpha * x)


@operation("Softplus", since=1, source="ONNX Softplus-22")
def softplus(m: Any, x: Any) -> Any:
    """log(1 + exp(x))."""
    return _softplus(m, x)


@operation("Mish", since=18, source="arXiv 1908.08681; ONNX Mish-22")
def mish(m: Any, x: Any) -> Any:
    """x * tanh(log(1 + exp(x)))."""
    return x * m.tanh(_softplus(m, x))


@operation("Softsign", since=1, source="ONNX Softsign-22")
def softsign(m: Any, x: Any) -> Any:
    """x / (1 + |x|)."""
    return x / (1.0 + m.abs(x))
