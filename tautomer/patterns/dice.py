"""The data adaptive activation: a mixture of x and alpha x whose weight is a normalised sigmoid."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import Channel, Scalar, operation


@operation("Dice", domain="tautomer", source="arXiv 1706.06978 (DIN)")
def dice(
    m: Any,
    x: Any,
    alpha: Channel,
    mean: Channel = 0.0,
    variance: Channel = 1.0,
    scale: Channel = 1.0,
    bias: Channel = 0.0,
    *,
    epsilon: Scalar = 1e-8,
) -> Any:
    """x * (alpha + (1 - alpha) * sigmoid((x - mean) / sqrt(variance + epsilon) * scale + bias))."""
    inner = (x - mean) * (m.rsqrt(variance + epsilon) * scale) + bias
    return x * (alpha + (1.0 - alpha) * m.sigmoid(inner))
