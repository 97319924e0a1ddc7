"""Gated linear units: an activation times a gate."""

from __future__ import annotations

from typing import Any

from tautomer.patterns.gelu import gelu, gelu_tanh
from tautomer.patterns.operation import Scalar, operation


@operation("GLU", domain="tautomer", source="arXiv 1612.08083")
def glu(m: Any, x: Any, gate: Any) -> Any:
    """sigmoid(x) * gate."""
    return m.sigmoid(x) * gate


@operation("SwiGLU", domain="tautomer", source="arXiv 2002.05202")
def swiglu(m: Any, x: Any, gate: Any, *, alpha: Scalar = 1.0) -> Any:
    """x * sigmoid(alpha * x) * gate."""
    return x * m.sigmoid(alpha * x) * gate


@operation("GeGLU", domain="tautomer", attributes={"approximate": "none"}, source="arXiv 2002.05202")
def geglu(m: Any, x: Any, gate: Any) -> Any:
    """x / 2 * (1 + erf(x / sqrt(2))) * gate."""
    return gelu(m, x) * gate


@operation("GeGLU", domain="tautomer", attributes={"approximate": "tanh"}, source="arXiv 2002.05202")
def geglu_tanh(m: Any, x: Any, gate: Any) -> Any:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) * gate."""
    return gelu_tanh(m, x) * gate


@operation("ReGLU", domain="tautomer", source="arXiv 2002.05202")
def reglu(m: Any, x: Any, gate: Any) -> Any:
    """max(x, 0) * gate."""
    return m.maximum(x, 0.0) * gate
