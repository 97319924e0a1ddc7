"""Facts of a model with operators of the domain `tautomer` in it, also where the file does not say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tautomer.graph.fact import Shape
from tautomer.graph.facts import Fact, Facts, extend, propagate
from tautomer.patterns import expert_gate, sparse_linear  # noqa: F401 - importing registers their rules
from tautomer.patterns.attention.operators import LAYOUTS, AttentionOperator, operator_named
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.operation import definitions
from tautomer.patterns.rowwise.program import is_rowwise, shapes_of_results


def facts_of(model: ir.Model, sizes: Mapping[str, int]) -> Facts:
    """What is known of all values.

    Args:
        model: any model.
        sizes: a number for each symbolic size.
    """
    facts = propagate(model, sizes)
    like_x = {definition.op for definition in definitions() if definition.rows != "folded"}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if all(facts.get(value).shape is not None and facts.get(value).dtype for value in node.outputs):
            continue
        if node.domain == DOMAIN and node.inputs and (node.op_type in like_x or is_rowwise(node.op_type)):
            x, function = facts.get(node.inputs[0]), model.functions.get(node.op_identifier())
            shapes: Sequence[Shape | None] = [x.shape] * len(node.outputs)
            if x.shape is not None and function is not None and is_rowwise(node.op_type):
                shapes = shapes_of_results(function, node, x.shape)
            for value, shape in zip(node.outputs, shapes, strict=False):
                facts.set(value, Fact(shape, x.dtype))
        elif node.domain == DOMAIN and (operator := operator_named(node.op_type)) is not None:
            facts.set(node.outputs[0], fact_of_attention(operator, node, facts))
        else:
            extend(facts, model, [node])
    return facts


def fact_of_attention(operator: AttentionOperator, node: ir.Node, facts: Facts) -> Fact:
    """y has the heads and positions of q, and the channels of v."""
    q, v = facts.get(node.inputs[0]), facts.get(node.inputs[2])
    if q.shape is None or v.shape is None or len(q.shape) != 4 or len(v.shape) != 4:
        return Fact(None, q.dtype)
    of_q, _, of_v, of_y = (LAYOUTS[letter] for letter in operator.layouts)
    sizes = [q.shape[of_q.index(axis)] for axis in range(3)] + [v.shape[of_v.index(3)]]
    return Fact(tuple(sizes[axis] for axis in of_y), q.dtype)
