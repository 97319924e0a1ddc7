"""merge norms: two norms of one tensor, each with a gain and bias of its own  ->  one norm without.

    n(x) * g1 + b1, n(x) * g2 + b2  ->  n(x),    g and b in the linear maps that read each

Condition: the same kind of norm with the same epsilon on the same rows, and readers that can take gain and
bias. Parallel attention and MLP blocks (GPT-NeoX, Falcon) have such pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.fold_affine import bias_after
from tautomer.passes.linear_maps.into_readers import fold_bias, fold_gain, obstacle
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_readers
from tautomer.passes.operands import filled
from tautomer.passes.operation_forms import Site, choose, write
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import function_of
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target


@dataclass(frozen=True)
class _Branch:
    """One of the norms: its readers, and what they have to take."""

    op: Recognised
    readers: list[LinearReader]
    bias: ir.Value | None
    add: ir.Node | None


@dataclass(frozen=True)
class MergeNorms:
    """Merges norms of one tensor."""

    name: ClassVar[str] = "merge norms"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each norm of a tensor that has several."""
        groups: dict[Any, list[Recognised]] = {}
        for op in work.operations("LayerNormalization", "RMSNormalization"):
            key = (op.op, op.inputs[0], op.axes, op.attributes.get("epsilon"), op.stash)
            groups.setdefault(key, []).append(op)
        remarks: list[Remark] = []
        for ops in groups.values():
            if len(ops) > 1:
                remarks += self._merge(work, ops)
        return remarks

    def _merge(self, work: Workspace, ops: list[Recognised]) -> list[Remark]:
        remarks: list[Remark] = []
        branches: list[_Branch] = []
        for op in ops:
            found = _branch(work, op)
            if isinstance(found, str):
                reason = f"another norm reads the same tensor, but {found}"
                remarks.append(Remark("missed", self.name, op.op, label(op.node), reason))
            else:
                branches.append(found)
        shared = None if len(branches) < 2 else self._shared(work, branches[0].op)
        if shared is None:
            return remarks
        for branch in branches:
            where = label(branch.op.node)
            if branch.bias is not None:
                fold_bias(work, branch.readers, branch.bias)
            gain = branch.op.inputs[1]
            assert gain is not None
            fold_gain(work, branch.readers, gain)
            if branch.add is not None:
                work.drop(branch.add.outputs[0], branch.op.output)
            work.drop(branch.op.output, shared.output)
            work.forget(branch.op)
            reason = f"{len(branches)} norms of one tensor became one; gain and bias are in its readers"
            remarks.append(Remark("passed", self.name, branch.op.op, where, reason))
        work.recognition.operations.append(shared)
        return remarks

    def _shared(self, work: Workspace, like: Recognised) -> Recognised | None:
        """The norm without gain and bias, in front of the first of the group."""
        x = like.inputs[0]
        assert x is not None
        dtype, shape = work.facts.get(like.output).dtype, work.facts.get(x).shape
        if dtype is None or shape is None:
            return None
        choice = choose(Site.at(work, like, dtype, self.target))
        if choice.form == "keep":
            return None
        b = work.builder(like.graph)
        row = [shape[axis] for axis in like.axes]
        operands = [x, filled(1.0, row, dtype, b)]
        if like.op == "LayerNormalization":
            operands.append(filled(0.0, row, dtype, b))
        result = write(choice.form, like, operands, dtype, len(shape), b)
        if choice.form == "function":
            work.declare(function_of(like.definition, work.version))
        producer = x.producer()
        if producer is None:
            work.place(b, next(iter(like.graph)))
        else:
            work.place_after(b, producer)
        work.facts.set(result, work.facts.get(like.output))
        return replace(like, inputs=tuple(operands), output=result, nodes=tuple(b.nodes), factors={})


def _branch(work: Workspace, op: Recognised) -> _Branch | str:
    """What the readers of a norm would have to take, or why they cannot."""
    if op.factors or len(op.inputs) < 2 or op.inputs[1] is None:
        return "its gain is not a tensor of its own"
    if len(op.axes) != 1:
        return "its rows are more than one axis"
    value, add = op.output, None
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    if op.op == "RMSNormalization" and (after := bias_after(work, op)) is not None:
        add, bias = after
        value = add.outputs[0]
    readers = linear_readers(work, value)
    if isinstance(readers, str):
        return readers
    if bias is not None and any(reader.bias is None for reader in readers):
        return "its readers have no bias that could take its own"
    for row in (op.inputs[1], bias):
        reason = "" if row is None else obstacle(work, readers, row)
        if reason:
            return reason
    return work.blind() or _Branch(op, readers, bias, add)
