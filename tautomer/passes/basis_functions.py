"""basis functions: what is computed from a number and constant knots  ->  without slices, on whole tensors.

    slice(f(a, b)) = f(slice(a), slice(b))        f pointwise; slices of knots are computed ahead
    f(x[..., None], knots) = f(x[..., None] 1, knots)                1 a row of ones, one per basis function

This is how KAN layers evaluate their bases: the recursion of Cox and de Boor takes neighbours of each degree
from slices of the last one, Gaussians and products of ReLUs have none. All of it becomes one region that one
kernel computes from a tensor of full size; neighbours are computed twice, and no intermediate tensor is
written. Condition: one tensor varies along no basis, everything else is constant, knots do not coincide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.naming import label, printable
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.shape_rules import numbers
from tautomer.passes.operands import filled
from tautomer.passes.rowwise_region import MOST_NODES, MOST_OPERANDS
from tautomer.passes.weight_check import expression_behind
from tautomer.passes.workspace import Workspace
from tautomer.patterns.rowwise_reading import POINTWISE
from tautomer.remarks import Remark
from tautomer.target import Target

_LEAST_NODES = 3
_MOST_KNOTS = 1 << 20
_SLICES_SINCE = 10  # Slice takes its bounds as inputs


class _Stays(Exception):
    """Why a basis stays as it is, as a sentence; none for what is no basis."""


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
            except _Stays as why:
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


def _content(work: Workspace, value: ir.Value) -> NDArray[Any] | None:
    """What a small constant holds, in float64."""
    fact, found = work.facts.get(value), expression_behind(work, value)
    if fact.array is not None:
        return fact.array
    if isinstance(found, str) or (fact.size or 0) > _MOST_KNOTS or any(map(work.is_valueless, found.sources)):
        return None
    m = Float64()
    return m.concrete(found.value(m, lambda name: lift(m, np.asarray(work.sources[name].numpy()))))


def _is_plain(node: ir.Node, *names: str) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in names


def _may_end(work: Workspace, node: ir.Node) -> bool:
    """Whether a node is pointwise, and no slice or pointwise node of its size reads it."""
    value = node.outputs[0]
    fact = work.facts.get(value)
    if not _is_plain(node, *POINTWISE) or fact.constant or not fact.shape or fact.shape[-1] < 2:
        return False
    if fact.dtype != ir.DataType.FLOAT:
        return False
    return not any(_is_plain(user, "Slice", "Cast", "And", *POINTWISE) for user, _ in value.uses())


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
    _made: dict[tuple[ir.Value, int, int], ir.Value] = field(default_factory=dict)
    _knots: dict[tuple[Shape, bytes], ir.Value] = field(default_factory=dict)
    _row: Shape = ()

    def read(self) -> None:
        """Finds the nodes and the leaf.

        Raises:
            _Stays: it is no basis, or one that stays.
        """
        stack = [self.root]
        reason = ""
        while stack:
            node = stack.pop()
            if node in self.nodes:
                continue
            self.nodes[node] = None
            for value in self._operands(node):
                fact = self.work.facts.get(value)
                made = value.producer()
                if fact.constant:
                    continue
                if fact.shape is not None and fact.shape and fact.shape[-1] == 1:
                    if self.leaf not in (None, value):
                        raise _Stays("")
                    self.leaf = value
                elif made is not None and _is_plain(made, "Slice", "Cast", "And", *POINTWISE):
                    stack.append(made)
                else:
                    reason = f"'{printable(value.name or '')}' varies, and is no constant knot"
        sliced = any(node.op_type == "Slice" for node in self.nodes)
        if self.leaf is None or len(self.nodes) < _LEAST_NODES or (reason and not sliced):
            raise _Stays("")
        if reason:
            raise _Stays(reason)
        for node in self.nodes:
            value = node.outputs[0]
            outside = value.is_graph_output() or any(user not in self.nodes for user, _ in value.uses())
            if node is not self.root and outside:
                raise _Stays(f"'{printable(value.name or '')}' is read outside of it, too")
            if node.op_type == "Div" and self._vanishes(node.inputs[1]):
                raise _Stays(f"node '{label(node)}' divides by 0: two knots coincide")

    def _operands(self, node: ir.Node) -> Iterator[ir.Value]:
        read = node.inputs[:1] if node.op_type == "Slice" else node.inputs
        return (value for value in read if value is not None)

    def _vanishes(self, divisor: ir.Value | None) -> bool:
        """Whether a constant has a zero in it."""
        if divisor is None or not self.work.facts.get(divisor).constant:
            return False
        array = _content(self.work, divisor)
        return array is not None and bool(np.any(array == 0))

    def rewrite(self) -> str:
        """Rewrites; the reason why not, or ""."""
        work, old, leaf = self.work, self.root.outputs[0], self.leaf
        graph, shape = self.root.graph, work.facts.get(old).shape
        assert isinstance(graph, ir.Graph) and shape is not None and leaf is not None
        if len(shape) < 2 or not work.recognition.static(old, (len(shape) - 2, len(shape) - 1)):
            return "its number of features is not fixed"
        b = work.builder(graph)
        self._row = shape[-2:]
        # onnxruntime repeats numbers one at a time, and multiplies matrices six times as fast
        wide = b.op("MatMul", leaf, filled(1.0, (1, shape[-1]), ir.DataType.FLOAT, b))
        new = self._sliced(b, wide, old, 0, shape[-1])
        computing = [node for node in b.nodes if node.op_type in POINTWISE]
        if len(computing) > MOST_NODES or len(self._knots) >= MOST_OPERANDS:
            b.discard()
            return f"it would take {len(computing)} nodes and {len(self._knots) + 1} operands in one kernel"
        key = (*((node.op_type, str(sorted(node.attributes))) for node in self.nodes), *shape)
        reason = work.evidence.refuses(key, old, new, work.leaves([leaf]))
        if reason:
            b.discard()
            return reason
        work.replace(old, new, b, list(reversed(self.nodes)))
        work.catch_up()
        return ""

    def _sliced(self, b: Builder, wide: ir.Value, value: ir.Value, start: int, stop: int) -> ir.Value:
        """A range of the last axis of a value, computed from ranges of constants."""
        key = (value, start, stop)
        if key not in self._made:
            self._made[key] = self._computed(b, wide, value, start, stop)
        return self._made[key]

    def _computed(self, b: Builder, wide: ir.Value, value: ir.Value, start: int, stop: int) -> ir.Value:
        node = value.producer()
        if value is self.leaf:
            return wide
        if self.work.facts.get(value).constant:
            return self._knot(b, value, start, stop)
        assert node is not None
        if node.op_type == "Slice":
            first = self._begin(node)
            assert node.inputs[0] is not None
            return self._sliced(b, wide, node.inputs[0], start + first, stop + first)
        if node.op_type == "Cast":
            return self._truth(b, wide, node.inputs[0], start, stop)
        if node.op_type == "And":
            raise _Stays(f"node '{label(node)}' (And) is read as it is")
        parts = [
            None if operand is None else self._sliced(b, wide, operand, start, stop)
            for operand in node.inputs
        ]
        return b.op(node.op_type, *parts, **call_of(node, self.work.version).attributes)

    def _knot(self, b: Builder, value: ir.Value, start: int, stop: int) -> ir.Value:
        """A range of a constant, one for each feature; of equal ones the first."""
        fact = self.work.facts.get(value)
        size = fact.shape[-1] if fact.shape else 1
        if fact.size == 1:
            return value
        array = _content(self.work, value)
        if array is None:
            raise _Stays(f"'{printable(value.name or '')}' is too large for knots")
        part = array[..., start:stop] if size > 1 else array
        key = (part.shape, part.tobytes())
        if key not in self._knots:
            cut = value
            if part.shape != array.shape:
                bounds = (b.constant(np.array([number], np.int64)) for number in (start, stop, -1))
                cut = b.op("Slice", value, *bounds)
            if part.shape[-2:] != self._row:
                cut = b.op("Expand", cut, b.constant(np.array(self._row, np.int64)))
            self._knots[key] = cut
        return self._knots[key]

    def _truth(self, b: Builder, wide: ir.Value, value: ir.Value | None, start: int, stop: int) -> ir.Value:
        """1 where a condition holds, else 0."""
        made = None if value is None else value.producer()
        if value is None or self.work.facts.get(value).dtype != ir.DataType.BOOL or made is None:
            raise _Stays("it converts numbers in between")
        one, zero = (b.scalar(number, ir.DataType.FLOAT) for number in (1.0, 0.0))
        if made.op_type != "And":
            return b.op("Where", self._sliced(b, wide, value, start, stop), one, zero)
        first, second = made.inputs
        assert first is not None
        then = self._truth(b, wide, second, start, stop)
        return b.op("Where", self._sliced(b, wide, first, start, stop), then, zero)

    def _begin(self, node: ir.Node) -> int:
        """Where a slice of the last axis begins.

        Raises:
            _Stays: it is another slice.
        """
        call, facts = call_of(node, self.work.version), self.work.facts
        given = [facts.get(value) for value in node.inputs]
        rank = len(given[0].shape or ())
        axes = numbers(call, given, "axes", 3) or list(range(rank))
        steps = numbers(call, given, "steps", 4) or [1] * len(axes)
        starts = numbers(call, given, "starts", 1)
        before, after = given[0].shape, facts.get(node.outputs[0]).shape
        if starts is None or before is None or after is None or any(step != 1 for step in steps):
            raise _Stays(f"node '{label(node)}' (Slice) takes other numbers in each run, or every second one")
        if before[:-1] != after[:-1]:
            raise _Stays(f"node '{label(node)}' (Slice) cuts another axis than that of the basis")
        for axis, start in zip(axes, starts, strict=False):
            if axis % rank == rank - 1:
                return int(min(max(start + before[-1] if start < 0 else start, 0), before[-1]))
        return 0
