"""Normalisation and activation in one, found by search; as they are for inference."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import Channel, Scalar, operation


def _variance(m: Any, x: Any) -> Any:
    centred = x - m.mean(x)
    return m.mean(centred * centred)


@operation("EvoNormB0", rows="channels", domain="tautomer", source="arXiv 2004.02967")
def evo_norm_b0(
    m: Any,
    x: Any,
    deviation: Channel,
    v: Channel = 1.0,
    scale: Channel = 1.0,
    bias: Channel = 0.0,
    *,
    epsilon: Scalar = 1e-3,
) -> Any:
    """x / max(deviation, v * x + sqrt(var(x) + epsilon)) * scale + bias, var over each channel."""
    return x / m.maximum(deviation, v * x + m.sqrt(_variance(m, x) + epsilon)) * scale + bias


@operation("EvoNormS0", rows="channel groups", domain="tautomer", source="arXiv 2004.02967")
def evo_norm_s0(
    m: Any,
    x: Any,
    v: Channel = 1.0,
    scale: Channel = 1.0,
    bias: Channel = 0.0,
    *,
    epsilon: Scalar = 1e-5,
) -> Any:
    """x * sigmoid(v * x) / sqrt(var(x) + epsilon) * scale + bias, var over groups of channels."""
    return x * m.sigmoid(v * x) * m.rsqrt(_variance(m, x) + epsilon) * scale + bias
