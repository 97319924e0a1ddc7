"""Rectifiers with a shift, a threshold, or a bound above: of a layer, or one of each neuron."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import Channel, Scalar, operation


@operation("ShiftedRelu", domain="tautomer", source="arXiv 2402.13516 (ProSparse)")
def shifted_relu(m: Any, x: Any, shift: Channel) -> Any:
    """max(x - shift, 0)."""
    return m.maximum(x - shift, 0.0)


@operation("FatRelu", domain="tautomer", source="Kurtz et al., ICML 2020 (FATReLU)")
def fat_relu(m: Any, x: Any, *, threshold: Scalar = 0.01) -> Any:
    """x where x >= threshold, else 0."""
    above = m.where(m.compare(">", x, threshold), x, 0.0)
    return m.where(m.compare("==", x, threshold), x, above)


@operation("ClippedRelu", domain="tautomer", source="arXiv 2406.06313 (ProAct)")
def clipped_relu(m: Any, x: Any, bound: Channel) -> Any:
    """max(min(x, bound), 0)."""
    return m.maximum(m.minimum(x, bound), 0.0)


@operation("BoundedRelu", domain="tautomer", source="arXiv 2406.06313 (ProAct)")
def bounded_relu(m: Any, x: Any, bound: Channel) -> Any:
    """max(x, 0) where x <= bound, else 0."""
    return m.where(m.compare(">", x, bound), 0.0, m.maximum(x, 0.0))


@operation("HybridRelu", domain="tautomer", source="arXiv 2406.06313 (ProAct)")
def hybrid_relu(m: Any, x: Any, bound: Channel, *, slope: Scalar = 20.0) -> Any:
    """max(x - x * sigmoid(slope * (x - bound)), 0)."""
    return m.maximum(x - x * m.sigmoid(slope * (x - bound)), 0.0)
