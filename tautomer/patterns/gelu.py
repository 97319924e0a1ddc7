"""The Gaussian error linear unit, exact and by tanh."""

from __future__ import annotations

import math
from typing import Any

from tautomer.patterns.operation import operation


@operation("Gelu", since=20, attributes={"approximate": "none"}, source="arXiv 1606.08415; ONNX Gelu-20")
def gelu(m: Any, x: Any) -> Any:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    return x * 0.5 * (1.0 + m.erf(x * math.sqrt(0.5)))


@operation("Gelu", since=20, attributes={"approximate": "tanh"}, source="arXiv 1606.08415; ONNX Gelu-20")
def gelu_tanh(m: Any, x: Any) -> Any:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    return x * 0.5 * (1.0 + m.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))
