"""select experts: softmax, top k, renormalise  ->  top k, softmax over k: the gate of a mixture of experts.

    p = softmax(x);  v, i = topk(p);  w = v / sum(v)        =        u, i = topk(x);  w = softmax(u)

since exp is monotone and the sum over all experts cancels. Condition: nobody else reads p or v, and the
model does not give i away. Where softmax rounds two logits to one probability, or far ones to zero, the first
of the two was chosen and the larger is now, so it is done when asked for; it takes k exponentials for a token
in the place of one per expert, little beside the choice itself. Top k and softmax over k, as gpt-oss and the
evaluation of dense-to-sparse gates have it, is the form itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.naming import label
from tautomer.graph.semantics.reductions import axes_of
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_TIES = (
    "it chooses the first of experts whose probabilities are one after rounding, and logits tell them apart"
)
_OPTION = "--select-experts lets it, and takes the softmax of the chosen experts alone"
_LAST_AXIS_SINCE = 13  # before, Softmax flattened what came behind its axis


@dataclass(frozen=True)
class SelectExperts:
    """Rewrites gates that take the softmax of all experts.

    Attributes:
        asked: whether the user wants it.
    """

    name: ClassVar[str] = "select experts"
    asked: bool

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each gate."""
        remarks = []
        for node in [node for node in work.model.graph if node.op_type == "TopK" and not node.domain]:
            softmax = _softmax_behind(node)
            if softmax is None:
                readers = [user for user, _ in node.outputs[0].uses()]
                if len(readers) == 1 and _is_softmax_of_rows(work, readers[0]):
                    form = "takes the softmax of the chosen experts alone"
                    remarks.append(Remark("analysis", self.name, "MoEGate", label(node), form))
                continue
            found = _gate(work, node, softmax)
            if isinstance(found, ir.Node) and not self.asked:
                remarks.append(Remark("missed", self.name, "MoEGate", label(node), _TIES, _OPTION))
                continue
            reason = found if isinstance(found, str) else _rewrite(work, node, softmax, found)
            if reason:
                remarks.append(Remark("missed", self.name, "MoEGate", label(node), reason))
            else:
                done = "takes the softmax of the chosen experts alone, whose weights need no renormalisation"
                remarks.append(Remark("passed", self.name, "MoEGate", label(node), done))
        return remarks


def _softmax_behind(topk: ir.Node) -> ir.Node | None:
    made = topk.inputs[0].producer() if topk.inputs[0] is not None else None
    return made if made is not None and made.op_type == "Softmax" and not made.domain else None


def _is_softmax_of_rows(work: Workspace, node: ir.Node) -> bool:
    """Whether a node is a softmax over the last axis."""
    rank = len(work.facts.get(node.outputs[0]).shape or ())
    if node.op_type != "Softmax" or node.domain or not rank or work.version < _LAST_AXIS_SINCE:
        return False
    return bool(call_of(node, work.version).get("axis", -1) % rank == rank - 1)


def _gate(work: Workspace, topk: ir.Node, softmax: ir.Node) -> ir.Node | str:
    """The division that ends a gate, or why there is none."""
    values, indices = topk.outputs[0], topk.outputs[1]
    rank = len(work.facts.get(topk.inputs[0]).shape or ())
    call = call_of(topk, work.version)
    if not _is_softmax_of_rows(work, softmax) or call.get("axis", -1) % rank != rank - 1:
        return "its experts do not lie along the last axis"
    if not call.get("largest", 1):
        return "it takes the smallest probabilities"
    if len(softmax.outputs[0].uses()) != 1 or softmax.outputs[0].is_graph_output():
        return "the probabilities of all experts are read elsewhere, too"
    if indices.is_graph_output():
        return "the model gives the chosen experts away, and of those with weight 0 others may be chosen"
    users = {user.op_type: user for user, _ in values.uses()}
    total, division = users.get("ReduceSum"), users.get("Div")
    if total is None or division is None:
        return "the weights of the chosen experts are not renormalised, so they depend on the others"
    if set(users) != {"ReduceSum", "Div"} or len(values.uses()) != 2 or values.is_graph_output():
        return "the probabilities of the chosen experts are read elsewhere, too"
    if division.inputs[0] is not values or division.inputs[1] is not total.outputs[0]:
        return "the weights are divided by something else than their sum"
    given = work.facts.get(total.inputs[1]).array if len(total.inputs) > 1 else None
    own = call_of(total, work.version)
    axes = axes_of(own, None if given is None else [int(axis) for axis in given.reshape(-1)], rank)
    if tuple(axes) != (rank - 1,) or not own.get("keepdims", 1) or len(total.outputs[0].uses()) != 1:
        return "the weights are divided by something else than their sum"
    return division


def _rewrite(work: Workspace, topk: ir.Node, softmax: ir.Node, division: ir.Node) -> str:
    """Rewrites a gate; the reason why not, or ""."""
    graph, x = topk.graph, softmax.inputs[0]
    assert isinstance(graph, ir.Graph) and x is not None
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
    work.drop(division.outputs[0], weights)
    work.catch_up()
    return ""
