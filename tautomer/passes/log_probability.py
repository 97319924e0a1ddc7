"""log-probability: a few numbers of a row of log-probabilities, without the row.

    log_softmax(x)[t] = x[t] - m - log(sum(exp(x - m))), m = max(x);  and so the mean or maximum of the row
    cross_entropy(x, t) = -log_softmax(x)[t], 0 where t is ignored; their sum, or mean over the others

Condition: one node reads the log-probabilities, and a kernel gives the one number of a row. In its place
x[t] - log(sum(exp(x))) would lose the digits that logits have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.facts import extend
from tautomer.graph.naming import label
from tautomer.passes.movement.row_steps import LOSSES, step_of
from tautomer.passes.workspace import Workspace
from tautomer.patterns.rowwise.program import Layout, obstacle
from tautomer.remarks import Remark
from tautomer.target import Target

_PICKS = ("GatherElements", "ReduceMax", "ReduceMean", "ReduceMin")


@dataclass(frozen=True)
class LogProbability:
    """Rewrites what reads log-probabilities.

    Attributes:
        target: whether it runs kernels of ours.
    """

    name: ClassVar[str] = "log-probability"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each loss, and each log-softmax of which little is read."""
        if not self.target.fuses_rowwise:
            return []
        remarks = []
        for node in [one for one in work.model.graph if one.op_type in LOSSES and not one.domain]:
            reason = _expanded(work, node)
            done = "it is written by the log-probabilities of its targets"
            remarks.append(_remark(node, reason, done))
        for node in [one for one in work.model.graph if one.op_type == "LogSoftmax" and not one.domain]:
            readers = list(dict.fromkeys(user for user, _ in node.outputs[0].uses()))
            if any(reader.op_type in _PICKS for reader in readers):
                reason = _obstacle(work, node, readers) or _picked(work, node, readers[0])
                remarks.append(_remark(node, reason, "its rows are not made: a logarithm of a sum is"))
        work.catch_up()
        return remarks


def _remark(node: ir.Node, reason: str, done: str) -> Remark:
    what = LogProbability.name, node.op_type, label(node)
    return Remark("missed", *what, reason) if reason else Remark("passed", *what, done)


def _expanded(work: Workspace, node: ir.Node) -> str:
    """Writes a loss by the log-probabilities of its targets; the reason why not, or ""."""
    x, target = node.inputs[:2]
    assert x is not None and target is not None
    if len(work.facts.get(x).shape or ()) != 2:
        return "its scores are no matrix"
    step = step_of(work, node, {x: None})
    if isinstance(step, str):
        return step
    assert isinstance(node.graph, ir.Graph)
    b = work.builder(node.graph)
    index = b.op("Reshape", target, b.constant(np.array([-1, 1])))

    def whole(value: ir.Value) -> ir.Value:
        return index if value is target else value

    losses = step.write(b, whole)
    if step.finish is not None:
        new = step.finish(b, losses, whole)
    else:
        new = b.op("Reshape", losses, b.constant(np.array([-1])))
    return _replaced(work, node, new, b, [x, target], node)


def _obstacle(work: Workspace, node: ir.Node, readers: list[ir.Node]) -> str:
    """Why a log-softmax stays, or ""."""
    x, y = node.inputs[0], node.outputs[0]
    fact, reader = work.facts.get(x), readers[0]
    if x is None or fact.shape is None or fact.dtype is None or fact.shape[-1] < 2:
        return "its shape is not known"
    if isinstance(step := step_of(work, node, {x: None}), str):
        return step
    if y.is_graph_output():
        return "its log-probabilities are an output of the model"
    if len(readers) > 1:
        return f"node '{label(readers[1])}' ({readers[1].op_type}) reads its log-probabilities, too"
    shape = work.facts.get(reader.outputs[0]).shape or (0,)
    if isinstance(step_of(work, reader, {y: None}), str) or shape != (*fact.shape[:-1], 1):
        return f"node '{label(reader)}' ({reader.op_type}) does not read one number for each row"
    if fact.dtype == ir.DataType.DOUBLE:
        return "kernels do not compute in DOUBLE"
    return obstacle(work.version, Layout(1), fact.dtype)


def _picked(work: Workspace, node: ir.Node, reader: ir.Node) -> str:
    """Writes what is read of a log-softmax without it; the reason why not, or ""."""
    x = node.inputs[0]
    assert x is not None and isinstance(reader.graph, ir.Graph)
    b = work.builder(reader.graph)
    call = call_of(reader, work.version)
    top = b.reduce("ReduceMax", x, [-1])
    shifted = b.op("Sub", x, top)
    picks = reader.op_type == "GatherElements"  # from x, which is there: what is shifted is in a kernel
    own = b.op(reader.op_type, x if picks else shifted, *reader.inputs[1:], **dict(call.attributes))
    own = b.op("Sub", own, top) if picks else own
    new = b.op("Sub", own, b.op("Log", b.reduce("ReduceSum", b.op("Exp", shifted), [-1])))
    read = [value for value in (x, reader.inputs[1] if picks else None) if value is not None]
    return _replaced(work, reader, new, b, read, node)


def _replaced(
    work: Workspace, old: ir.Node, new: ir.Value, b: Builder, read: list[ir.Value], more: ir.Node
) -> str:
    """Puts new nodes in the place of an old one, if the evidence lets it; the reason why not, or ""."""
    shapes = tuple(work.facts.get(value).shape for value in read)
    attributes = tuple((name, str(attribute.value)) for name, attribute in sorted(old.attributes.items()))
    key = LogProbability.name, old.op_type, attributes, shapes
    reason = work.evidence.refuses(key, old.outputs[0], new, work.leaves(read))
    if reason:
        b.discard()
        return reason
    extend(work.recognition.elsewhere(), work.model, b.nodes)
    work.replace(old.outputs[0], new, b, list(dict.fromkeys((more, old))))
    return ""
