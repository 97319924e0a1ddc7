"""basis functions: what is computed from a number and constant knots  ->  without slices, on whole tensors.

    slice(f(a, b)) = f(slice(a), slice(b))        f pointwise; slices of knots are computed ahead
    f(x[..., None], knots) = f(x[..., None] 1, knots)                1 a row of ones, one per basis function

This is how KAN layers evaluate their bases: the recursion of Cox and de Boor takes neighbours of each degree
from slices of the last one, Gaussians and products of ReLUs have none. All of it becomes one region that one
kernel computes from a tensor of full size; neighbours are computed twice, and no intermediate tensor is
written. Condition: one tensor varies along no basis, everything else is constant, knots do not coincide.
Bases are bounded then, and 0 far from their knots: of guards against NaN and infinities behind each degree,
as pykan has them, the last one is enough, and NaN is all that it meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import label, printable
from tautomer.passes.finite_guards import guard_of, guarded
from tautomer.passes.movement.basis_ranges import Ranges, Stays, content_of, is_plain, number_behind
from tautomer.passes.operands import filled
from tautomer.passes.rowwise.nodes import is_pointwise
from tautomer.passes.rowwise.region import MOST_NODES, MOST_OPERANDS
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark
from tautomer.target import Target

_LEAST_NODES = 3
_SLICES_SINCE = 10  # Slice takes its bounds as inputs


@dataclass(frozen=True)
class BasisFunctions:
    """Prepares bases for a kernel.

    Attributes:
        target: whether it runs kernels of ours.
    """

    name: ClassVar[str] = "basis functions"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each basis."""
        if not self.target.fuses_rowwise or work.version < _SLICES_SINCE:
            return []
        remarks = []
        seen: set[ir.Node] = set()  # only asked whether it has a node
        for node in reversed(list(work.model.graph)):
            if node in seen or not _may_end(work, node):
                continue
            cone = _Cone(work, node)
            try:
                cone.read()
                seen |= cone.nodes.keys()
                reason = cone.rewrite()
            except Stays as why:
                seen |= cone.nodes.keys()
                reason = str(why)
                if not reason:
                    continue
            if reason:
                remarks.append(Remark("missed", self.name, "BasisFunctions", label(node), reason))
                continue
            degree = sum(each.op_type == "Slice" for each in cone.nodes) // 2  # two neighbours for each
            what = f"a recursion of degree {degree}" if degree else "no recursion"
            done = f"{len(cone.nodes)} nodes, {what}, are one region for a kernel"
            remarks.append(Remark("passed", self.name, "BasisFunctions", label(node), done))
        return remarks


def _may_end(work: Workspace, node: ir.Node) -> bool:
    """Whether a node is pointwise, and no slice or pointwise node of its size reads it."""
    value = node.outputs[0]
    fact = work.facts.get(value)
    if not is_pointwise(node, work.version) or fact.constant or not fact.shape or fact.shape[-1] < 2:
        return False
    if fact.dtype != ir.DataType.FLOAT:
        return False
    return not any(_goes_on(work, user) for user, _ in value.uses())


def _goes_on(work: Workspace, node: ir.Node) -> bool:
    """Whether a basis may have such a node inside it."""
    return is_plain(node, "Slice", "Cast", "And") or is_pointwise(node, work.version)


@dataclass
class _Cone:
    """The nodes between a varying number and the basis that is computed from it.

    Attributes:
        work: the model.
        root: gives the basis.
        nodes: in the order in which they were met.
        leaf: what varies, and has size 1 along the last axis.
    """

    work: Workspace
    root: ir.Node
    nodes: dict[ir.Node, None] = field(default_factory=dict)
    leaf: ir.Value | None = None

    def read(self) -> None:
        """Finds the nodes and the leaf.

        Raises:
            Stays: it is no basis, or one that stays.
        """
        stack = [self.root]
        reason = ""
        while stack:
            node = stack.pop()
            if node in self.nodes:
                continue
            guard = guard_of(self.work, node)
            self.nodes |= dict.fromkeys((node,) if guard is None else guard.nodes)
            for value in self._operands(node) if guard is None else (guard.value,):
                fact = self.work.facts.get(value)
                made = value.producer()
                if fact.constant:
                    continue
                if fact.shape is not None and fact.shape and fact.shape[-1] == 1:
                    number = number_behind(self.work, value)
                    if self.leaf not in (None, number):
                        raise Stays("")
                    self.leaf = number
                elif made is not None and (_goes_on(self.work, made) or self._repeats(made)):
                    stack.append(made)
                else:
                    reason = f"'{printable(value.name or '')}' varies, and is no constant knot"
        sliced = any(node.op_type == "Slice" for node in self.nodes)
        if self.leaf is None or len(self.nodes) < _LEAST_NODES or (reason and not sliced):
            raise Stays("")
        if reason:
            raise Stays(reason)
        for node in self.nodes:
            value = node.outputs[0]
            outside = value.is_graph_output() or any(user not in self.nodes for user, _ in value.uses())
            if node is not self.root and outside:
                raise Stays(f"'{printable(value.name or '')}' is read outside of it, too")
            if node.op_type == "Div" and self._vanishes(node.inputs[1]):
                raise Stays(f"node '{label(node)}' divides by 0: two knots coincide")

    def _operands(self, node: ir.Node) -> Iterator[ir.Value]:
        read = node.inputs[:1] if node.op_type in ("Slice", "Expand") else node.inputs
        return (value for value in read if value is not None)

    def _repeats(self, node: ir.Node) -> bool:
        """Whether a node only repeats what has one element along the last axis."""
        before, after = (self.work.facts.get(value).shape for value in (node.inputs[0], node.outputs[0]))
        alike = before is not None and after is not None and before == (*after[:-1], 1)
        return is_plain(node, "Expand") and alike

    def _vanishes(self, divisor: ir.Value | None) -> bool:
        """Whether a constant has a zero in it."""
        if divisor is None or not self.work.facts.get(divisor).constant:
            return False
        array = content_of(self.work, divisor)
        return array is not None and bool(np.any(array == 0))

    def rewrite(self) -> str:
        """Rewrites; the reason why not, or ""."""
        work, old, leaf = self.work, self.root.outputs[0], self.leaf
        graph, shape = self.root.graph, work.facts.get(old).shape
        assert isinstance(graph, ir.Graph) and shape is not None and leaf is not None
        if len(shape) < 2 or not work.recognition.static(old, (len(shape) - 2, len(shape) - 1)):
            return "its number of features is not fixed"
        b = work.builder(graph)
        # onnxruntime repeats numbers one at a time, and multiplies matrices six times as fast
        wide = b.op("MatMul", leaf, filled(1.0, (1, shape[-1]), ir.DataType.FLOAT, b))
        ranges = Ranges(work, b, leaf, wide, shape[-2:])
        new = ranges.of(old, 0, shape[-1])
        if guard_of(work, self.root) is not None:
            new = guarded(b, new)
        computing = [node for node in b.nodes if is_pointwise(node, work.version)]
        if len(computing) > MOST_NODES or len(ranges.knots) >= MOST_OPERANDS:
            b.discard()
            return f"it would take {len(computing)} nodes and {len(ranges.knots) + 1} operands in one kernel"
        key = (*((node.op_type, str(sorted(node.attributes))) for node in self.nodes), *shape)
        reason = work.evidence.refuses(key, old, new, work.leaves([leaf]))
        if reason:
            b.discard()
            return reason
        work.replace(old, new, b, list(reversed(self.nodes)))
        work.catch_up()
        return ""
