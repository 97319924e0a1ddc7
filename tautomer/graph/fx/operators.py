"""Operators of the domain `tautomer` that torch can call: by the name of the operation, a target to call.

    @operator("RMSNormalization")
    def rms(emit, node): return emit.call_target(torch.ops.tautomer.rms_norm_v1.default, ...)

Whoever has kernels registers them; a model with others is not written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

if TYPE_CHECKING:
    from tautomer.graph.fx.emitter import Emitter

Write = Callable[["Emitter", ir.Node], Any]
OPERATORS: dict[str, Write] = {}
"""Operation -> what writes a node of it; empty until kernels are registered."""


def operator(name: str) -> Callable[[Write], Write]:
    """Registers the writing of an operator of ours."""

    def register(function: Write) -> Write:
        OPERATORS[name] = function
        return function

    return register
