"""Facts of a model with operators of the domain `tautomer` in it, also where the file does not say them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from tautomer.graph.facts import Fact, Facts, extend, propagate
from tautomer.patterns import sparse_linear  # noqa: F401 - importing is registering its shape rule
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.operation import definitions
from tautomer.patterns.rowwise import is_rowwise


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
            x = facts.get(node.inputs[0])
            for value in node.outputs:
                facts.set(value, Fact(x.shape, x.dtype))
        else:
            extend(facts, model, [node])
    return facts
