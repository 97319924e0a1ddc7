"""join norms: s = x + r, norm(s)  ->  (norm(s), s) by one kernel, which takes the sum while it reads x and r.

    n = norm(x + r), s = x + r        without a pass that writes s, and one that reads it back

Condition: x and r have the shape of the sum, and the norm works on its last axis. The stream goes on with s
where something else reads it; where nothing does, the operator has one result. This comes behind the rewrites
of whole streams, which look at sums and norms apart.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.naming import label
from tautomer.passes.operands import operands_of
from tautomer.passes.operation_forms import Site, choose
from tautomer.passes.raise_operations import what_goes
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import DOMAIN, function_of
from tautomer.patterns.operation import definition_of
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target


@dataclass(frozen=True)
class JoinNorms:
    """Joins norms with the residual sums that they read.

    Attributes:
        target: whether it has kernels for that, and from which size on they gain.
    """

    name: ClassVar[str] = "join norms"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each norm of a residual sum."""
        remarks = []
        for op in list(work.operations("LayerNormalization", "RMSNormalization")):
            add = _residual_sum(work, op) if f"Add{op.op}" in self.target.gains else None
            if add is None:
                continue
            joined = _as_joined(work, op, add)
            where = label(op.node)
            reason = _refusal(work, op, add) or self._join(work, op, add, joined)
            if reason:
                remarks.append(Remark("missed", self.name, joined.op, where, reason))
            else:
                done = f"a residual sum and its norm became one {DOMAIN}.{joined.op}"
                remarks.append(Remark("passed", self.name, joined.op, where, done))
        return remarks

    def _join(self, work: Workspace, op: Recognised, add: ir.Node, joined: Recognised) -> str:
        """Rewrites one norm; the reason why not, or ""."""
        total, definition = add.outputs[0], joined.definition
        dtype = work.facts.get(total).dtype
        choice = choose(Site.at(work, joined, dtype, self.target))
        if choice.form != "function" or dtype is None:
            return choice.reason
        b = work.builder(op.graph)
        inputs = operands_of(work, joined, dtype, b, bias_is_optional=False)
        if isinstance(inputs, str):
            b.discard()
            return inputs
        made = b.several(
            definition.op, len(definition.results), *inputs, domain=DOMAIN, **dict(joined.attributes)
        )
        old = (op.output, total)[: len(made)]
        leaves = {value: work.origin(total) for value in inputs[:2] if value is not None}
        place = _place(b, op.graph, {id(node) for value in old for node, _ in value.uses()} | {id(op.node)})
        reason = (
            "" if place is not None else "another reader of the sum comes before what its gain comes from"
        )
        for result, before, after in zip(definition.results, old, made, strict=True):
            reason = reason or work.evidence.refuses((op.key, definition.op, result), before, after, leaves)
        if reason or place is None:
            b.discard()
            return reason
        work.declare(function_of(definition, work.version))
        work.place(b, place)
        work.forget(op)
        for before, after in zip(old, made, strict=True):
            work.supersede(before, after)
            work.reread(before, after)
        remove_dead([add, *reversed(op.nodes)])
        return ""


def _residual_sum(work: Workspace, op: Recognised) -> ir.Node | None:
    """The node that adds two tensors of one shape, neither of them a constant, for a norm to read."""
    total = op.inputs[0]
    node = None if total is None else total.producer()
    if node is None or node.op_type not in ("Add", "Sum") or node.domain not in ("", "ai.onnx"):
        return None
    facts = [work.facts.get(value) for value in (*node.inputs, *node.outputs)]
    alike = len(facts) == 3 and facts[0].shape is not None and len({fact.shape for fact in facts}) == 1
    return node if alike and not any(fact.constant for fact in facts) else None


def _as_joined(work: Workspace, op: Recognised, add: ir.Node) -> Recognised:
    """The operation that the sum and the norm are together."""
    total = add.outputs[0]
    inside = {id(node) for node in op.nodes}
    read = total.is_graph_output() or any(id(node) not in inside for node, _ in total.uses())
    # the mean of what relies on a mean of zero is checked, so that value stays too
    definition = definition_of(f"Add{op.op}{'WithSum' if read or total in work.centred else ''}")
    assert definition is not None
    return replace(op, definition=definition, inputs=(*add.inputs, *op.inputs[1:]))


def _refusal(work: Workspace, op: Recognised, add: ir.Node) -> str:
    total, (_, reader) = add.outputs[0], what_goes(op)
    if reader is not None:
        return f"what the norm computes on the way is read elsewhere, by '{label(reader)}' first"
    if add.graph is not op.graph or any(node.graph is not op.graph for node, _ in total.uses()):
        return "the sum is computed or read in another graph than the norm"
    return ""


def _place(b: Builder, graph: ir.Graph, readers: Collection[int]) -> ir.Node | None:
    """The first of the readers, by identity, if all that the new nodes read is computed before it."""
    own = {id(node) for node in b.nodes}
    read = [value.producer() for node in b.nodes for value in node.inputs if value is not None]
    waiting = {id(node) for node in read if node is not None} - own
    for node in graph:
        if id(node) in readers and id(node) not in own:
            return None if waiting else node
        waiting.discard(id(node))
    return None
