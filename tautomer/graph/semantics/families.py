"""Every file of meanings; importing this one fills the table."""

from __future__ import annotations

from tautomer.graph.semantics import (
    arithmetic,
    casts,
    einsum,
    linear,
    logic,
    losses,
    movement,
    pointwise,
    quantization,
    reductions,
    resize,
    scatter,
    selection,
    shapes,
    transposed_convolution,
    windows,
)

__all__ = [
    "arithmetic",
    "casts",
    "einsum",
    "linear",
    "logic",
    "losses",
    "movement",
    "pointwise",
    "quantization",
    "reductions",
    "resize",
    "scatter",
    "selection",
    "shapes",
    "transposed_convolution",
    "windows",
]
