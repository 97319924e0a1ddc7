"""Normalisation of rows with a mean of zero, from which one element has been left out.

Such a row of d elements holds what d - 1 of them say. Either the last one is dropped, which is minus the sum
of the others, or the row is written in an orthonormal basis of the rows with mean zero.
"""

from __future__ import annotations

from typing import Any

from tautomer.patterns.operation import Scalar, operation


@operation("CRMSNormalization", rows="trailing", domain="tautomer", by_name=True, source="arXiv 2305.14858")
def crms_norm(m: Any, x: Any, scale: Any = 1.0, *, epsilon: Scalar = 1e-5) -> Any:
    """x / sqrt((sum(x^2) + sum(x)^2) / (n + 1) + epsilon) * scale, over the n elements of the last axes."""
    last = m.sum(x)
    return x * m.rsqrt((m.sum(x * x) + last * last) / (m.count(x) + 1.0) + epsilon) * scale


@operation("OrthonormalCRMSNormalization", rows="trailing", domain="tautomer", by_name=True)
def orthonormal_crms_norm(m: Any, x: Any, scale: Any = 1.0, *, epsilon: Scalar = 1e-5) -> Any:
    """x / sqrt(sum(x^2) / (n + 1) + epsilon) * scale, over the n elements of the last axes."""
    return x * m.rsqrt(m.sum(x * x) / (m.count(x) + 1.0) + epsilon) * scale
