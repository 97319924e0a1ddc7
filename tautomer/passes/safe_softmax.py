"""safe softmax: s = softmax(x), where(isnan(s), 0, s)  ->  SafeSoftmax(x), one kernel for three.

    a row of softmax(x) that has a NaN is NaN in every element, so the guard is one question for each row

Condition: nothing but the guard reads the softmax. Exporters write the guard around attention, so that a row
that is masked as a whole gives 0; it reads and writes the scores twice more, which takes longer than the
softmax itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.operation_forms import Site, choose
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import DOMAIN, function_of
from tautomer.patterns.operation import definition_of
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target


@dataclass(frozen=True)
class SafeSoftmax:
    """Takes the guards of softmaxes into them.

    Attributes:
        target: whether it has a kernel for that, and from which size on it gains.
    """

    name: ClassVar[str] = "safe softmax"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each guarded softmax."""
        definition = definition_of("SafeSoftmax")
        assert definition is not None
        if definition.op not in self.target.gains:
            return []
        remarks = []
        for op in list(work.operations("Softmax")):
            guard = _guard(work, op)
            if guard is None:
                continue
            safe, where = replace(op, definition=definition), label(op.node)
            reason = self._rewrite(work, op, safe, guard)
            if reason:
                remarks.append(Remark("missed", self.name, safe.op, where, reason))
            else:
                done = f"a softmax and its guard became one {DOMAIN}.{safe.op}"
                remarks.append(Remark("passed", self.name, safe.op, where, done))
        return remarks

    def _rewrite(self, work: Workspace, op: Recognised, safe: Recognised, guard: list[ir.Node]) -> str:
        """Rewrites one; the reason why not, or ""."""
        x, old = op.inputs[0], guard[-1].outputs[0]
        assert x is not None
        if work.facts.get(x).shape is None:
            return "the shape of what it reads is not known"
        choice = choose(Site.at(work, safe, work.facts.get(old).dtype, self.target))
        if choice.form != "function":
            return choice.reason
        b = work.builder(op.graph)
        new = b.op(safe.op, x, domain=DOMAIN, **dict(safe.attributes))
        refusal = work.evidence.refuses((op.key, safe.op), old, new, {x: work.origin(x)})
        if refusal:
            b.discard()
            return refusal
        work.declare(function_of(safe.definition, work.version))
        work.replace(old, new, b, [*op.nodes, *guard])
        work.forget(op)
        return ""


def _guard(work: Workspace, op: Recognised) -> list[ir.Node] | None:
    """IsNaN and Where that put 0 in the place of NaN, if they are the only readers of a softmax."""
    readers = [node for node, _ in op.output.uses()]
    if sorted(node.op_type for node in readers) != ["IsNaN", "Where"] or op.output.is_graph_output():
        return None
    asked, chosen = sorted(readers, key=lambda node: node.op_type)
    answer = asked.outputs[0]
    if chosen.inputs[0] is not answer or chosen.inputs[2] is not op.output or len(answer.uses()) != 1:
        return None
    if answer.is_graph_output() or any(node.graph is not op.graph for node in readers):
        return None
    zero = work.facts.get(chosen.inputs[1])
    alike = work.facts.get(chosen.outputs[0]).shape == work.facts.get(op.output).shape
    return [asked, chosen] if alike and zero.array is not None and not np.any(zero.array) else None
