"""select experts: softmax, top k, renormalise  ->  top k, softmax over k: the gate of a mixture of experts.

    p = softmax(x);  v, i = topk(p);  w = v / sum(v)        =        u, i = topk(x);  w = softmax(u)

since exp is monotone and the sum over all experts cancels. Condition: nobody else reads p or v, and the
model does not give i away. Where softmax rounds two logits to one probability, or far ones to zero, the first
of the two was chosen and the larger is now, so it is done when asked for; it takes k exponentials for a token
in the place of one per expert, little beside the choice itself. Top k and softmax over k, as gpt-oss and the
evaluation of dense-to-sparse gates have it, is the form itself. `expert_gates` makes one operator of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.naming import label
from tautomer.passes.gate_sites import (
    choices_of,
    obstacle,
    read_elsewhere,
    share_of,
    softmax_before,
    softmax_behind,
)
from tautomer.passes.workspace import Workspace
from tautomer.patterns.expert_gate import FAMILY
from tautomer.remarks import Remark
from tautomer.target import Target

_TIES = (
    "it chooses the first of experts whose probabilities are one after rounding, and logits tell them apart"
)
_OPTION = "--choose-by-logits lets it, and takes the softmax of the chosen experts alone"


@dataclass(frozen=True)
class SelectExperts:
    """Rewrites gates that take the softmax of all experts.

    Attributes:
        asked: whether the user wants it.
        target: where it has kernels of gates, what was not asked for is no news.
    """

    name: ClassVar[str] = "select experts"
    asked: bool
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each gate."""
        remarks: list[Remark] = []
        if not self.asked and FAMILY in self.target.gains:
            return remarks
        for node in choices_of(work):
            before = softmax_before(work, node)
            if before is None:
                if softmax_behind(work, node):
                    form = "takes the softmax of the chosen experts alone"
                    remarks.append(Remark("analysis", self.name, "MoEGate", label(node), form))
                continue
            found = _gate(work, node)
            if not isinstance(found, str) and not self.asked:
                remarks.append(Remark("missed", self.name, "MoEGate", label(node), _TIES, _OPTION))
                continue
            reason = found if isinstance(found, str) else _rewrite(work, node, before, found)
            if reason:
                remarks.append(Remark("missed", self.name, "MoEGate", label(node), reason))
            else:
                done = "takes the softmax of the chosen experts alone, whose weights need no renormalisation"
                remarks.append(Remark("passed", self.name, "MoEGate", label(node), done))
        return remarks


def _gate(work: Workspace, topk: ir.Node) -> tuple[ir.Node, ir.Node] | str:
    """The sum and the division that end a gate, or why there is none."""
    if reason := obstacle(work, topk) or read_elsewhere(topk):
        return reason
    if topk.outputs[1].is_graph_output():
        return "the model gives the chosen experts away, and of those with weight 0 others may be chosen"
    return share_of(work, topk)


def _rewrite(
    work: Workspace,
    topk: ir.Node,
    before: tuple[ir.Value, Sequence[ir.Node]],
    share: tuple[ir.Node, ir.Node],
) -> str:
    """Rewrites a gate; the reason why not, or ""."""
    graph, (x, softmax), (total, division) = topk.graph, before, share
    assert isinstance(graph, ir.Graph)
    b = work.builder(graph)
    attributes = dict(call_of(topk, work.version).attributes)
    chosen, indices = b.several("TopK", 2, x, *topk.inputs[1:], **attributes)
    weights = b.op("Softmax", chosen, axis=-1)
    leaves = work.leaves([x])
    shape = work.facts.get(x).shape
    key = (SelectExperts.name, shape, str(sorted(attributes.items())), work.facts.get(topk.outputs[0]).shape)
    reason = work.evidence.refuses((*key, "weights"), division.outputs[0], weights, leaves)
    reason = reason or work.evidence.refuses((*key, "experts"), topk.outputs[1], indices, leaves, linear=True)
    if reason:
        b.discard()
        return reason
    work.place(b, topk)
    work.supersede(topk.outputs[1], indices)
    work.supersede(division.outputs[0], weights)
    remove_dead([division, total, topk, *reversed(softmax)])
    work.catch_up()
    return ""
