"""Normalisation of rows."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import Scalar, operation


@operation(
    "LayerNormalization", rows="trailing", since=17, source="arXiv 1607.06450; ONNX LayerNormalization-17"
)
def layer_norm(m: Any, x: Any, scale: Any = 1.0, bias: Any = 0.0, *, epsilon: Scalar = 1e-5) -> Any:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias, over the last axes."""
    centred = x - m.mean(x)
    return centred * m.rsqrt(m.mean(centred * centred) + epsilon) * scale + bias


@operation("RMSNormalization", rows="trailing", since=23, source="arXiv 1910.07467; ONNX RMSNormalization-23")
def rms_norm(m: Any, x: Any, scale: Any = 1.0, *, epsilon: Scalar = 1e-5) -> Any:
    """x / sqrt(mean(x^2) + epsilon) * scale, over the last axes."""
    return x * m.rsqrt(m.mean(x * x) + epsilon) * scale


@operation("L2Normalization", rows="trailing", domain="tautomer", source="torch.nn.functional.normalize")
def l2_norm(m: Any, x: Any, scale: Any = 1.0, *, epsilon: Scalar = 1e-12) -> Any:
    """x / max(sqrt(sum(x^2)), epsilon) * scale, over the last axes."""
    return x / m.maximum(m.sqrt(m.sum(x * x)), epsilon) * scale
