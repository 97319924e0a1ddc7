"""Which sums of a rewritten graph are none of the original's: products of matrices of other sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir

from tautomer.graph.facts import propagate


def longest_new_sum(original: ir.Model, rewritten: ir.Model, sizes: Mapping[str, int]) -> int:
    """The most terms that a product of two varying matrices sums, of those that the original does not have.

    Args:
        original: the model as it was.
        rewritten: the model as it is now.
        sizes: a number for each symbolic size.

    Returns:
        0 where there is none.
    """
    new = _products(rewritten, sizes) - _products(original, sizes)
    return max((terms for _, terms, _ in new), default=0)


def _products(model: ir.Model, sizes: Mapping[str, int]) -> Counter[tuple[int, int, int]]:
    """How many products there are of a matrix of n by k and one of k by m, by n, k and m."""
    facts, found = propagate(model, sizes), Counter[tuple[int, int, int]]()
    for node in model.graph:
        if node.op_type == "MatMul" and node.domain in ("", "ai.onnx"):
            a, b = (facts.get(value) for value in node.inputs)
            if not (a.constant or b.constant) and min(len(a.shape or ()), len(b.shape or ())) >= 2:
                assert a.shape is not None and b.shape is not None
                found[a.shape[-2], a.shape[-1], b.shape[-1]] += 1
    return found
