"""unstack: a sum over a new last axis of a few elements  ->  the sum of its terms.

    sum_i f(x[..., None], p)[..., i]   = f(x, p_0) + f(x, p_1) + ...,      p constants, f pointwise
    sum_i f(stack(x_0, x_1, ...), p)_i = f(x_0, p_0) + f(x_1, p_1) + ...
    stack(x_0, x_1, ...) p             = x_0 p_0 + x_1 p_1 + ...               p a vector

Condition: at most 8 terms of the first form, 16 of the second; nobody else reads what is between; for the
first one the target fuses chains of pointwise operations. Series activations (PanGu-pi) are written so, and
then are one pass over x in the place of several over a tensor that is as many times as large. Polynomials
by a Vandermonde matrix are of the second form; what becomes of them is recognised again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.naming import label
from tautomer.passes.movement.stacks import adds_the_last, joined
from tautomer.passes.rowwise.nodes import is_pointwise
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark
from tautomer.target import Target

_MOST_TERMS = 8
_MOST_PARTS = 16
_MOST_NODES = 64  # of all terms together, as of a rowwise region


@dataclass(frozen=True)
class Unstack:
    """Writes out sums over a new axis."""

    name: ClassVar[str] = "unstack"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each sum."""
        forms = {"ReduceSum": _Stack.of, "MatMul": _Stack.times_vector}
        found = [forms[node.op_type](work, node) for node in list(work.model.graph) if node.op_type in forms]
        stacks = [
            stack for stack in found if stack is not None and (stack.parts or self.target.fuses_rowwise)
        ]
        remarks = [self._rewritten(work, stack) for stack in stacks]
        if any(stack.parts for stack in stacks) and any(remark.kind == "passed" for remark in remarks):
            work.recognise_again()
        return remarks

    def _rewritten(self, work: Workspace, stack: _Stack) -> Remark:
        graph, output = stack.reduction.graph, stack.reduction.outputs[0]
        assert isinstance(graph, ir.Graph)
        b = work.builder(graph)
        where = label(stack.reduction)
        new = stack.written(b)
        leaves = {value: work.origin(value) for value in stack.leaves}
        refusal = work.evidence.refuses((self.name, where), output, new, leaves)
        if refusal:
            b.discard()
            return Remark("missed", self.name, "ReduceSum", where, refusal)
        work.replace(output, new, b, [*stack.nodes, stack.reduction])
        terms = f"a sum over a new axis became {stack.count} terms"
        return Remark("passed", self.name, "ReduceSum", where, terms)


@dataclass(frozen=True)
class _Stack:
    """A sum over a last axis that was made by Unsqueeze, or by joining what has one element there.

    Attributes:
        reduction: the sum, or the product with a vector.
        count: its terms.
        nodes: what is summed is computed by them, in topological order; each gives the axis.
        bases: a value with the new axis, of one element -> the value without it.
        constants: what has an element for each term, or one for all.
        parts: a value that was joined -> what it was joined from, without the axis, and where it begins.
    """

    reduction: ir.Node
    count: int
    nodes: tuple[ir.Node, ...]
    bases: dict[ir.Value, ir.Value]
    constants: dict[ir.Value, Shape]
    parts: dict[ir.Value, tuple[tuple[ir.Value, ...], int]]
    version: int

    @property
    def leaves(self) -> list[ir.Value]:
        """What the terms are computed from."""
        read = [part for parts, _ in self.parts.values() for part in parts]
        return list(dict.fromkeys([*self.bases.values(), *read]))

    @classmethod
    def of(cls, work: Workspace, reduction: ir.Node) -> _Stack | None:
        """The stack under a sum, if it is one."""
        summed = reduction.inputs[0]
        fact = work.facts.get(summed)
        if summed is None or not fact.shape or reduction.attributes.get_int("keepdims", True):
            return None
        count, rank = fact.shape[-1], len(fact.shape)
        given = work.facts.get(reduction.inputs[1]).array if len(reduction.inputs) > 1 else None
        axes = reduction.attributes.get_ints("axes") or ([] if given is None else given.reshape(-1).tolist())
        fixed = work.recognition.static(work.origin(summed), (rank - 1,))
        if [axis % rank for axis in axes] != [rank - 1] or not 2 <= count <= _MOST_PARTS or not fixed:
            return None
        inside: dict[ir.Node, None] = {}
        bases: dict[ir.Value, ir.Value] = {}
        constants: dict[ir.Value, Shape] = {}
        parts: dict[ir.Value, tuple[tuple[ir.Value, ...], int]] = {}
        waiting = [summed]
        while waiting:
            value = waiting.pop()
            made, own = value.producer(), work.facts.get(value)
            if own.constant and own.shape is not None:
                constants[value] = own.shape
            elif made is not None and made.op_type == "Unsqueeze" and adds_the_last(work, made):
                assert made.inputs[0] is not None
                bases[value] = made.inputs[0]
            elif (whole := joined(work, value)) is not None:
                parts[value] = whole
            elif made is None or not _is_term(work, made, value, (reduction, *inside)):
                return None
            elif made not in inside:
                inside[made] = None
                waiting += [one for one in made.inputs if one is not None]
        most = _MOST_PARTS if parts and not bases else _MOST_TERMS
        if not (bases or parts) or not inside or count > most or count * len(inside) > _MOST_NODES:
            return None
        nodes = tuple(node for node in work.model.graph if node in inside)
        return cls(reduction, count, nodes, bases, constants, parts, work.version)

    @classmethod
    def times_vector(cls, work: Workspace, product: ir.Node) -> _Stack | None:
        """The stack in front of a product with a constant vector, if it is one."""
        stack, vector = product.inputs
        fact = work.facts.get(vector)
        if stack is None or vector is None or not fact.constant or len(fact.shape or ()) != 1:
            return None
        whole, count = joined(work, stack), (fact.shape or (0,))[0]
        if whole is None or not 2 <= count <= _MOST_PARTS:
            return None
        return cls(product, count, (), {}, {vector: (count,)}, {stack: whole}, work.version)

    def written(self, b: Builder) -> ir.Value:
        """The terms and their sum."""
        total = self._term(b, 0)
        for index in range(1, self.count):
            total = b.op("Add", total, self._term(b, index))
        return total

    def _term(self, b: Builder, index: int) -> ir.Value:
        now: dict[ir.Value, ir.Value] = dict(self.bases)
        now |= {value: parts[first + index] for value, (parts, first) in self.parts.items()}
        for value, shape in self.constants.items():
            place = b.constant(np.array(index if shape and shape[-1] == self.count else 0, np.int64))
            now[value] = b.op("Gather", value, place, axis=len(shape) - 1) if shape else value
        for node in self.nodes:
            inputs = [None if value is None else now[value] for value in node.inputs]
            now[node.outputs[0]] = b.op(node.op_type, *inputs, **call_of(node, self.version).attributes)
        if not self.nodes:
            return b.op("Mul", *(now[value] for value in self.reduction.inputs if value is not None))
        return now[self.nodes[-1].outputs[0]]


def _is_term(work: Workspace, node: ir.Node, value: ir.Value, readers: tuple[ir.Node, ...]) -> bool:
    """Whether a node is pointwise, and read by the others only."""
    if node.domain not in ("", "ai.onnx") or value.is_graph_output() or len(node.outputs) != 1:
        return False
    return is_pointwise(node, work.version) and all(user in readers for user, _ in value.uses())
