"""A residual addition and the norm that reads the sum.

In most blocks the stream goes on with the sum, beside the norm: there the operator gives both, so that the
sum is not read again.
"""

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


@operation(
    "AddLayerNormalizationWithSum",
    rows="trailing",
    domain="tautomer",
    source="arXiv 1706.03762",
    results=("y", "sum"),
)
def add_layer_norm_with_sum(
    m: Any, x: Any, residual: Any, scale: Any = 1.0, bias: Any = 0.0, *, epsilon: Scalar = 1e-5
) -> tuple[Any, Any]:
    """LayerNormalization(x + residual), and x + residual."""
    total = x + residual
    return layer_norm(m, total, scale, bias, epsilon=epsilon), total


@operation(
    "AddRMSNormalizationWithSum",
    rows="trailing",
    domain="tautomer",
    source="arXiv 1910.07467",
    results=("y", "sum"),
)
def add_rms_norm_with_sum(
    m: Any, x: Any, residual: Any, scale: Any = 1.0, *, epsilon: Scalar = 1e-5
) -> tuple[Any, Any]:
    """RMSNormalization(x + residual), and x + residual."""
    total = x + residual
    return rms_norm(m, total, scale, epsilon=epsilon), total
