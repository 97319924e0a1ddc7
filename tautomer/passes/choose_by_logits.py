"""choose by logits: argmax(softmax(x / t))  ->  argmax(x), and the same of log-probabilities with noise.

    argmax(softmax(x)) = argmax(log_softmax(x)) = argmax(x),   argmax(x / t) = argmax(x) for t > 0
    argmax(log_softmax(x) / t + g) = argmax(x / t + g)         g any tensor: Gumbel noise makes it a sample

and the same of the indices of top k, since exp is increasing and the normaliser is one number per row.
Condition: one axis for all, and nothing else reads the probabilities. Softmax rounds some logits to one
probability, of which the first is chosen; the largest logit is chosen now, which is the exact result. A row
with NaN or +inf has no probabilities, and gives another index. For both reasons it is done when asked for.
Heads of top k that give the chosen probabilities, too, keep their softmax: exp(topk(x) - logsumexp(x)) took
onnxruntime four times as long. Of few classes they are a gate of `expert_gates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.naming import label
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_TIES = "it chooses the first of those whose probabilities are one after rounding, and logits tell them apart"
_OPTION = "--choose-by-logits lets it choose by logits, without the softmax"
_LAST_AXIS_SINCE = 13  # before, Softmax flattened what came behind its axis
_MOST = 4  # nodes between a softmax and the choice


@dataclass(frozen=True)
class ChooseByLogits:
    """Takes softmaxes away from in front of choices.

    Attributes:
        asked: whether the user wants it.
    """

    name: ClassVar[str] = "choose by logits"
    asked: bool

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each choice by probabilities."""
        remarks = []
        for node in [
            each for each in work.model.graph if each.op_type in ("ArgMax", "TopK") and not each.domain
        ]:
            index = node.outputs[-1]
            if node.op_type == "TopK" and (node.outputs[0].uses() or node.outputs[0].is_graph_output()):
                continue  # probabilities of the chosen are wanted
            path = _path(work, node)
            if path is None:
                continue
            reason = path if isinstance(path, str) else "" if self.asked else _TIES
            if not reason:
                assert not isinstance(path, str)
                reason = _rewrite(work, node, path, index)
            if reason:
                hint = _OPTION if reason == _TIES else ""
                remarks.append(Remark("missed", self.name, node.op_type, label(node), reason, hint))
            else:
                done = "it chooses by logits, and their softmax is not computed"
                remarks.append(Remark("passed", self.name, node.op_type, str(index.name), done))
        return remarks


def _path(work: Workspace, choice: ir.Node) -> list[ir.Node] | str | None:
    """The nodes from a softmax to a choice, or why the choice needs it; None where there is no softmax."""
    rank = len(work.facts.get(choice.inputs[0]).shape or ())
    call = call_of(choice, work.version)
    axis = call.get("axis", -1 if choice.op_type == "TopK" else 0)
    found: list[ir.Node] = []
    value = choice.inputs[0]
    while value is not None and len(found) <= _MOST and rank:
        node = value.producer()
        if node is None or node.domain or node.graph is not choice.graph:
            return None
        found.insert(0, node)
        if node.op_type in ("Softmax", "LogSoftmax"):
            return _obstacle(work, found, axis % rank, rank)
        value = _before(work, node)
    return None


def _before(work: Workspace, node: ir.Node) -> ir.Value | None:
    """The operand of a node that a choice may look at instead, or that noise is added to."""
    if node.op_type not in ("Add", "Mul", "Div"):
        return None
    logs = [x for x in node.inputs if x is not None and not work.facts.get(x).constant and _is_log(work, x)]
    if node.op_type == "Add":
        return logs[0] if len(logs) == 1 else None
    numbers = [work.facts.get(x).array for x in node.inputs]
    slot = 1 if node.op_type == "Div" or numbers[1] is not None else 0
    number = numbers[slot]
    return (
        node.inputs[1 - slot]
        if number is not None and number.size == 1 and float(number.reshape(())) > 0
        else None
    )


def _is_log(work: Workspace, value: ir.Value) -> bool:
    """Whether a value is a log-softmax, or a positive multiple of one."""
    for _ in range(_MOST):
        node = value.producer()
        if node is None or node.op_type == "LogSoftmax":
            return node is not None
        before = _before(work, node) if node.op_type in ("Mul", "Div") else None
        if before is None:
            return False
        value = before
    return False


def _obstacle(work: Workspace, path: list[ir.Node], axis: int, rank: int) -> list[ir.Node] | str:
    softmax = path[0]
    own = call_of(softmax, work.version).get("axis", -1) % rank
    if work.version < _LAST_AXIS_SINCE or own != axis:
        return "it chooses along another axis than its softmax works on"
    for node in path:
        value = node.outputs[0]
        if len(value.uses()) != 1 or value.is_graph_output():
            return f"'{value.name}' is read elsewhere, too, so the softmax is needed"
    return path


def _rewrite(work: Workspace, choice: ir.Node, path: list[ir.Node], old: ir.Value) -> str:
    """Rewrites a choice; the reason why not, or ""."""
    graph, x = choice.graph, path[0].inputs[0]
    assert isinstance(graph, ir.Graph) and x is not None
    b = work.builder(graph)
    last = max((i for i, node in enumerate(path) if node.op_type == "Add"), default=0)
    before, result = path[0].outputs[0], x
    for node in path[1 : last + 1]:  # a multiple before noise matters, behind it or without it does not
        result = b.op(node.op_type, *(result if operand is before else operand for operand in node.inputs))
        before = node.outputs[0]
    made = b.several(
        choice.op_type,
        len(choice.outputs),
        result,
        *choice.inputs[1:],
        **dict(call_of(choice, work.version).attributes),
    )
    others = [operand for node in path[1:] for operand in node.inputs if operand is not None]
    inside = {node.outputs[0] for node in path}
    leaves = work.leaves([x, *(operand for operand in others if operand not in inside)])
    key = (ChooseByLogits.name, choice.op_type, *(node.op_type for node in path), work.facts.get(x).shape)
    reason = work.evidence.refuses((*key, work.facts.get(old).shape), old, made[-1], leaves, linear=True)
    if reason:
        b.discard()
        return reason
    work.replace(old, made[-1], b, [*path, choice])
    work.catch_up()
    return ""
