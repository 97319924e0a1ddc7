"""Which sums of a rewritten graph are none of the original's: products of matrices of other sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir

from tautomer.graph.facts import Facts, propagate

_Product = tuple[int, int, int]  # the terms of each sum, and the smaller and the larger size of the result


def longest_new_sums(original: ir.Model, rewritten: ir.Model, sizes: Mapping[str, int]) -> dict[str, int]:
    """The most terms that a product of two varying matrices sums, of those that the original does not have.

    Args:
        original: the model as it was.
        rewritten: the model as it is now.
        sizes: a number for each symbolic size.

    Returns:
        By the name of each output that is computed from such a product; others are not in it.
    """
    facts = propagate(rewritten, sizes)
    new = _products(rewritten, facts) - _products(original, propagate(original, sizes))
    if not new:
        return {}
    longest: dict[ir.Value, int] = {}
    for node in rewritten.graph:
        terms = max((longest.get(value, 0) for value in node.inputs if value is not None), default=0)
        product = _product(node, facts)
        if product is not None and product in new:
            terms = max(terms, product[0])
        longest.update(dict.fromkeys(node.outputs, terms))
    return {str(value.name): longest[value] for value in rewritten.graph.outputs if longest.get(value)}


def _products(model: ir.Model, facts: Facts) -> Counter[_Product]:
    """How many products of two varying matrices there are of each size."""
    return Counter(found for node in model.graph if (found := _product(node, facts)))


def _product(node: ir.Node, facts: Facts) -> _Product | None:
    """The sizes of a product of two varying matrices; a transposed one sums the same terms."""
    if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
        return None
    a, b = (facts.get(value) for value in node.inputs)
    if a.constant or b.constant or a.shape is None or b.shape is None or min(len(a.shape), len(b.shape)) < 2:
        return None
    n, m = a.shape[-2], b.shape[-1]
    return a.shape[-1], min(n, m), max(n, m)
