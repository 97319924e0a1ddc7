"""Activations that are sums of powers, or of an activation and a correction, with learned factors."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.norms import rms_norm
from tautomer.patterns.operation import Scalar, Weight, operation

_THIRD = 1.0 / 3.0


@operation("PolyRelu", domain="tautomer", source="arXiv 2411.03884 (PolyCom)")
def poly_relu(
    m: Any,
    x: Any,
    *,
    cubic: Weight = _THIRD,
    square: Weight = _THIRD,
    linear: Weight = _THIRD,
    constant: Weight = 0.0,
) -> Any:
    """cubic * r^3 + square * r^2 + linear * r + constant, where r = max(x, 0)."""
    r = m.maximum(x, 0.0)
    return r * (linear + r * (square + r * cubic)) + constant


@operation("PolyNorm", rows="trailing", domain="tautomer", source="arXiv 2411.03884 (PolyCom)")
def poly_norm(
    m: Any,
    x: Any,
    *,
    epsilon: Scalar = 1e-6,
    cubic: Weight = _THIRD,
    square: Weight = _THIRD,
    linear: Weight = _THIRD,
    constant: Weight = 0.0,
) -> Any:
    """cubic * n(x^3) + square * n(x^2) + linear * n(x) + constant, where n is RMSNormalization."""
    powers = (x * x * x, x * x, x)
    n3, n2, n1 = (rms_norm(m, power, epsilon=epsilon) for power in powers)
    return cubic * n3 + square * n2 + linear * n1 + constant


@operation("CRRelu", domain="tautomer", source="arXiv 2405.12954")
def crrelu(m: Any, x: Any, *, factor: Weight = 0.01) -> Any:
    """max(x, 0) + factor * x * exp(-x^2 / 2)."""
    return m.maximum(x, 0.0) + factor * (x * m.exp(-(x * x) * 0.5))
