"""Normalisation of the channels of an image, one by one or in groups, with gains and biases of channels."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.norms import layer_norm
from tautomer.patterns.operation import Channel, Scalar, operation


@operation(
    "InstanceNormalization",
    rows="channels",
    since=6,
    source="arXiv 1607.08022; ONNX InstanceNormalization-22",
)
def instance_norm(
    m: Any, x: Any, scale: Channel = 1.0, bias: Channel = 0.0, *, epsilon: Scalar = 1e-5
) -> Any:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias, over each channel."""
    return layer_norm(m, x, scale, bias, epsilon=epsilon)


@operation(
    "GroupNormalization",
    rows="channel groups",
    since=21,
    source="arXiv 1803.08494; ONNX GroupNormalization-21",
)
def group_norm(m: Any, x: Any, scale: Channel = 1.0, bias: Channel = 0.0, *, epsilon: Scalar = 1e-5) -> Any:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias, over groups of channels."""
    return layer_norm(m, x, scale, bias, epsilon=epsilon)
