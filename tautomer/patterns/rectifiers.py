"""Activations with a corner: piecewise linear, or exponential on one side of zero."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import Scalar, operation


@operation("Relu", since=6, source="ONNX Relu-14")
def relu(m: Any, x: Any) -> Any:
    """max(x, 0)."""
    return m.maximum(x, 0.0)


@operation("SquaredRelu", domain="tautomer", source="arXiv 2109.08668 (Primer)")
def squared_relu(m: Any, x: Any) -> Any:
    """max(x, 0)^2."""
    positive = m.maximum(x, 0.0)
    return positive * positive


@operation("LeakyRelu", since=6, source="ONNX LeakyRelu-16")
def leaky_relu(m: Any, x: Any, *, alpha: Scalar = 0.01) -> Any:
    """max(x, 0) + alpha * min(x, 0)."""
    return m.maximum(x, 0.0) + alpha * m.minimum(x, 0.0)


@operation("HardSigmoid", since=6, source="ONNX HardSigmoid-22")
def hard_sigmoid(m: Any, x: Any, *, alpha: Scalar = 0.2, beta: Scalar = 0.5) -> Any:
    """max(0, min(1, alpha * x + beta))."""
    return m.maximum(m.minimum(alpha * x + beta, 1.0), 0.0)


@operation("HardSwish", since=14, source="arXiv 1905.02244; ONNX HardSwish-22")
def hard_swish(m: Any, x: Any) -> Any:
    """x * max(0, min(1, x / 6 + 1 / 2))."""
    return x * m.maximum(m.minimum(x * (1.0 / 6.0) + 0.5, 1.0), 0.0)


@operation("Elu", since=6, source="arXiv 1511.07289; ONNX Elu-22")
def elu(m: Any, x: Any, *, alpha: Scalar = 1.0) -> Any:
    """max(x, 0) + alpha * (exp(min(x, 0)) - 1)."""
    return m.maximum(x, 0.0) + alpha * m.expm1(m.minimum(x, 0.0))


@operation("Selu", since=6, source="arXiv 1706.02515; ONNX Selu-22")
def selu(
    m: Any,
    x: Any,
    *,
    alpha: Scalar = 1.6732632423543772848170429916717,
    gamma: Scalar = 1.0507009873554804934193349852946,
) -> Any:
    """gamma * (max(x, 0) + alpha * (exp(min(x, 0)) - 1))."""
    return gamma * (m.maximum(x, 0.0) + alpha * m.expm1(m.minimum(x, 0.0)))


@operation("Celu", since=12, source="arXiv 1704.07483; ONNX Celu-12")
def celu(m: Any, x: Any, *, alpha: Scalar = 1.0) -> Any:
    """max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1)."""
    return m.maximum(x, 0.0) + alpha * m.expm1(m.minimum(x, 0.0) / alpha)


@operation("ThresholdedRelu", since=10, source="arXiv 1402.3337; ONNX ThresholdedRelu-22")
def thresholded_relu(m: Any, x: Any, *, alpha: Scalar = 1.0) -> Any:
    """x where x > alpha, else 0."""
    return m.where(m.compare(">", x, alpha), x, 0.0)


@operation("Shrink", since=9, source="ONNX Shrink-9")
def shrink(m: Any, x: Any, *, bias: Scalar = 0.0, lambd: Scalar = 0.5) -> Any:
    """x + bias where x < -lambd, x - bias where x > lambd, else 0."""
    return m.where(m.compare(">", x, lambd), x - bias, m.where(m.compare("<", x, -lambd), x + bias, 0.0))
