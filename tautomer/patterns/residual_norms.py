"""A residual addition and the norm that reads the sum."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.norms import layer_norm, rms_norm
from tautomer.patterns.operation import Scalar, operation


@operation("AddLayerNormalization", rows="trailing", domain="tautomer", source="arXiv 1706.03762")
def add_layer_norm(
    m: Any, x: Any, residual: Any, scale: Any = 1.0, bias: Any = 0.0, *, epsilon: Scalar = 1e-5
) -> Any:
    """LayerNormalization(x + residual)."""
    return layer_norm(m, x + residual, scale, bias, epsilon=epsilon)


@operation("AddRMSNormalization", rows="trailing", domain="tautomer", source="arXiv 1910.07467")
def add_rms_norm(m: Any, x: Any, residual: Any, scale: Any = 1.0, *, epsilon: Scalar = 1e-5) -> Any:
    """RMSNormalization(x + residual)."""
    return rms_norm(m, x + residual, scale, epsilon=epsilon)
