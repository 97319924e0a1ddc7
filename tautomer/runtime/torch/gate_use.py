"""Gates of torch graphs by our kernel: where it runs, and how its calls are written.

Gates are recognised and rewritten by `passes.expert_gates`, in torch graphs as in ONNX files.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import getitem
from typing import Any

import onnx_ir as ir
from torch import fx

from tautomer.codegen.gate_kernel import FORMS
from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.groups import FxModel
from tautomer.graph.fx.table import Writing
from tautomer.patterns.expert_gate import is_gate
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.runtime.torch.attention_use import source_of
from tautomer.runtime.torch.gate_library import attach_gate, gate_operator


class GateUse:
    """Says which gates of a graph our kernel runs.

    Args:
        read: the graph.
        differentiated: the nodes that gradients flow through.
    """

    def __init__(self, read: FxModel, differentiated: Collection[fx.Node]) -> None:
        self._read, self._differentiated = read, differentiated

    def refuses(self, scores: ir.Value) -> str:
        """Why the operator cannot take the place of a gate on these scores, or ""."""
        source = source_of(self._read, scores)
        if source is None:
            return "another rewrite made it"
        if source in self._differentiated:
            return "gradients flow through it, for which there is no kernel"
        device = source.meta["val"].device.type
        return attach_gate() if device == "cpu" else f"there is no kernel for {device}"


def writing_of_gate(domain: str, op_type: str) -> Writing | None:
    """How a call of a gate is written into a torch graph; None for any other operator."""
    return _write if domain == DOMAIN and is_gate(op_type) else None


def _write(emit: Emitter, node: ir.Node) -> Any:
    (k,) = emit.integers(node.inputs[1])
    pair = emit.call_target(gate_operator(), emit.operand(node.inputs[0]), k, FORMS.index(node.op_type))
    return [emit.call_target(getitem, pair, index) for index in range(2)]
