"""Gated linear units: any activation times a gate.

    fGLU(x, gate) = f(x) * gate

Those with a name of their own are defined here, and have kernels by that name; the others are made where an
activation is met with a gate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

# importing them is defining what is gated here
from tautomer.patterns import gelu, rectifiers, smooth  # noqa: F401
from tautomer.patterns.operation import Definition, define, defined

_NAMED = {
    "Sigmoid": ("GLU", "arXiv 1612.08083"),
    "Swish": ("SwiGLU", "arXiv 2002.05202"),
    "Gelu[approximate=none]": ("GeGLU", "arXiv 2002.05202"),
    "Gelu[approximate=tanh]": ("GeGLU", "arXiv 2002.05202"),
    "Relu": ("ReGLU", "arXiv 2002.05202"),
}


def gated(activation: Definition) -> Definition:
    """The definition of an activation times a gate of the shape of x."""

    def function(m: Any, x: Any, gate: Any, **given: Any) -> Any:
        return activation.function(m, x, **given) * gate

    op, source = _NAMED.get(activation.key, (f"{activation.op}GLU", activation.source))
    return replace(
        activation,
        op=op,
        function=function,
        domain="tautomer",
        since=1,
        operands=("gate", *activation.operands),
        formula=f"({activation.formula.rstrip('.')}) * gate",
        source=source,
        weights=(),
    )


GATED = {key: define(gated(defined(key))) for key in _NAMED}
"""The definitions with a name of their own, by the key of their activation."""
