"""Products of three matrices, (A B) C, and the factors per row and per column that may stand between.

    (r * (A B) * c) C          A [n, k], B [k, m], C [m, p]; r [n, 1], c [1, m]
    sum(r * (A B) * c, -1)     C is a column of ones

A walk back from C finds A B, loosely; all that reads A B has to be of these forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.fact import elements
from tautomer.graph.naming import label
from tautomer.passes.workspace import Workspace

SUMS = ("ReduceSum", "ReduceMean")
_FARTHEST = 16  # nodes between two products


@dataclass(frozen=True)
class Step:
    """A node that multiplies or divides the product of A and B by a factor.

    Attributes:
        node: a Mul, or a Div whose first operand is the product.
        slot: which operand the product is.
        per_row: whether the factor is one number for each row, or one for all; else one for each column.
    """

    node: ir.Node
    slot: int
    per_row: bool

    def applied(self, b: Builder, value: ir.Value) -> ir.Value:
        """The same factor on another value."""
        operands = list(self.node.inputs)
        operands[self.slot] = value
        return b.op(self.node.op_type, *operands)


@dataclass(frozen=True)
class Reader:
    """A product with C, or a sum over the columns, and the factors before it."""

    node: ir.Node
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Sizes:
    """The sizes of three matrices, and how many there are of each product."""

    n: int
    k: int
    m: int
    p: int
    of_ab: int
    of_bc: int
    of_abc: int

    @classmethod
    def of(cls, work: Workspace, product: ir.Node, reader: ir.Node) -> Sizes:
        """Of known shapes of at least two axes."""
        a, b = (work.facts.get(value).shape or () for value in product.inputs)
        c = work.facts.get(reader.inputs[1]).shape or ()
        batches = [shape[:-2] for shape in (a, b, c)]
        counts = [elements(np.broadcast_shapes(*each)) for each in (batches[:2], batches[1:], batches)]
        return cls(a[-2], a[-1], b[-1], c[-1], *counts)

    def first(self) -> int:
        """Multiplications of A B."""
        return self.of_ab * self.n * self.k * self.m

    def second(self) -> int:
        """Of (A B) C, given A B."""
        return self.of_abc * self.n * self.m * self.p

    def other(self) -> int:
        """Of B C and A (B C)."""
        return (self.of_bc * self.m + self.of_abc * self.n) * self.k * self.p


def is_plain(node: ir.Node, *op_types: str) -> bool:
    """Whether a node is one of these operators of ONNX's own domain."""
    return node.op_type in op_types and node.domain in ("", "ai.onnx")


def product_behind(work: Workspace, node: ir.Node) -> ir.Node | None:
    """The product of two varying matrices that the left operand of another one is computed from, elementwise.

    None also behind a softmax: such scores are no product's factor in any reading.
    """
    shape = work.facts.get(node.inputs[0]).shape
    if shape is None or len(shape) < 2 or len(work.facts.get(node.inputs[1]).shape or ()) < 2:
        return None
    waiting = [node.inputs[0]]
    for _ in range(_FARTHEST):
        value = waiting.pop(0) if waiting else None
        producer = None if value is None else value.producer()
        if producer is None or producer.graph is not node.graph or is_plain(producer, "Softmax"):
            return None
        if is_plain(producer, "MatMul"):
            varying = all(not work.facts.get(operand).constant for operand in producer.inputs)
            ranks = [len(work.facts.get(operand).shape or ()) for operand in producer.inputs]
            return producer if varying and min(ranks) >= 2 else None
        waiting += [x for x in producer.inputs if x is not None and work.facts.get(x).shape == shape]
    return None


def readers_of(work: Workspace, product: ir.Node) -> list[Reader] | str:
    """All that reads a product, behind factors, or half a sentence: who needs the product itself."""
    scores = product.outputs[0]
    found: list[Reader] = []
    waiting: list[tuple[ir.Value, tuple[Step, ...]]] = [(scores, ())]
    while waiting:
        value, steps = waiting.pop(0)
        if value.is_graph_output():
            return f"'{value.name}', which lies between the products, is an output of the model"
        for node, slot in value.uses():
            if slot == 0 and (_multiplies(work, node) or _sums_columns(work, node)):
                found.append(Reader(node, steps))
            elif isinstance(step := _step(work, node, slot, scores), Step):
                waiting.append((node.outputs[0], (*steps, step)))
            else:
                return f"node '{label(node)}' ({node.op_type}) {step}"
    return found


def _step(work: Workspace, node: ir.Node, slot: int, scores: ir.Value) -> Step | str:
    """A factor, or what a node does instead."""
    if not is_plain(node, "Mul", "Div") or (node.op_type == "Div" and slot == 1):
        return "stands between the products, and is no factor"
    shape, factor = work.facts.get(scores).shape, work.facts.get(node.inputs[1 - slot]).shape
    if node.inputs[0] is node.inputs[1]:
        return "squares what stands between the products"
    if factor is None or work.facts.get(node.outputs[0]).shape != shape:
        return "has a factor between the products whose shape is not known to fit"
    if not factor or factor[-1] == 1:
        return Step(node, slot, True)
    if len(factor) == 1 or factor[-2] == 1:
        return Step(node, slot, False)
    return "has a factor between the products that varies along rows and columns, as a mask does"


def _multiplies(work: Workspace, node: ir.Node) -> bool:
    """Whether a node is a product with a matrix."""
    return is_plain(node, "MatMul") and len(work.facts.get(node.inputs[1]).shape or ()) >= 2


def _sums_columns(work: Workspace, node: ir.Node) -> bool:
    """Whether a node is a sum or mean over the last axis alone."""
    if not is_plain(node, *SUMS):
        return False
    shape = work.facts.get(node.inputs[0]).shape or ()
    axes: Sequence[int] | None = node.attributes.get_ints("axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        known = work.facts.get(node.inputs[1]).array
        axes = None if known is None else [int(axis) for axis in known.reshape(-1)]
    return axes is not None and [axis % len(shape) for axis in axes] == [len(shape) - 1]
