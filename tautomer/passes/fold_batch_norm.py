"""fold batch norm: a batch norm of inference in a chain of pointwise nodes  ->  a factor and a shift.

    (x - mean) / sqrt(variance + epsilon) * scale + bias = a x + c,
    a = scale / sqrt(variance + epsilon),   c = bias - a mean

Condition: its statistics are constants, and it stands in a chain that becomes one operator, where two numbers
are read in the place of four and no root is taken. Dice is such a chain. The constants are folded as all are,
in double precision with one rounding.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.naming import label
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

NAME = "fold batch norm"


def fold_batch_norms(work: Workspace, nodes: Iterable[ir.Node]) -> list[Remark]:
    """Folds those batch norms of some nodes whose statistics are constants; a remark for each."""
    norms = [node for node in nodes if node.op_type == "BatchNormalization" and _foldable(work, node)]
    return [_folded(work, node) for node in norms]


def _foldable(work: Workspace, node: ir.Node) -> bool:
    facts = [work.facts.get(value) for value in node.inputs]
    return len(facts) == 5 and all(fact.constant for fact in facts[1:]) and len(facts[0].shape or ()) > 1


def _folded(work: Workspace, node: ir.Node) -> Remark:
    graph, where = node.graph, label(node)
    assert isinstance(graph, ir.Graph)
    b = work.builder(graph)
    x, *_ = (work.now(value) for value in node.inputs if value is not None)
    new = _affine(b, node, work)
    refusal = work.evidence.refuses((NAME, where), node.outputs[0], new, {x: work.origin(x)})
    if refusal:
        b.discard()
        return Remark("missed", NAME, "BatchNormalization", where, refusal)
    work.replace(node.outputs[0], new, b, [node])
    done = "four numbers per channel became a factor and a shift"
    return Remark("passed", NAME, "BatchNormalization", where, done)


def _affine(b: Builder, node: ir.Node, work: Workspace) -> ir.Value:
    x, scale, bias, mean, variance = (work.now(value) for value in node.inputs if value is not None)
    fact = work.facts.get(node.inputs[0])
    assert fact.dtype is not None
    assert fact.shape is not None
    epsilon = b.scalar(node.attributes.get_float("epsilon", 1e-5), fact.dtype)
    factor = b.op("Div", scale, b.op("Sqrt", b.op("Add", variance, epsilon)))
    shift = b.op("Sub", bias, b.op("Mul", factor, mean))
    if len(fact.shape) > 2:
        wide = b.constant(np.array([-1, *(1,) * (len(fact.shape) - 2)], np.int64))
        factor, shift = b.op("Reshape", factor, wide), b.op("Reshape", shift, wide)
    return b.op("Add", b.op("Mul", x, factor), shift)
