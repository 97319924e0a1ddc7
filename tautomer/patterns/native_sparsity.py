"""Sparsity that a model has of its own: named, since as a rewrite it would be a change of the model.

    where(a >= t, a, 0)      t the k-th largest of a row: a top-k activation; a number above 0: FATReLU;
                             (x A) B instead of a, with a narrow A: predicted sparsity
    scatter(0, i, v)         i, v = top-k of a row: the same as the first, without its ties

What it leaves at zero may be skipped exactly; that it is the model's is all that is said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from tautomer.graph.facts import Facts
from tautomer.graph.naming import label
from tautomer.remarks import Remark

_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_ON_THE_WAY = frozenset(
    {"Abs", "Add", "Cast", "Expand", "Gather", "Identity", "Not", "ReduceMin", "Reshape", "Sigmoid", "Slice"}
    | {"Split", "Squeeze", "Unsqueeze"}
)
_PRODUCTS = ("MatMul", "Gemm")


def native_sparsity(graph: ir.Graph, facts: Facts) -> Iterator[Remark]:
    """A remark for each place where activations are thresholded, selected or predicted."""
    for node in graph:
        name = _named(node, facts)
        if name:
            reason = (
                "is the model's own and is kept; in the place of another activation it would change the model"
            )
            yield Remark("analysis", "model change", name, label(node), reason)


def _named(node: ir.Node, facts: Facts) -> str:
    """What kind of sparsity a node writes, or ""."""
    if node.op_type in ("ScatterElements", "Scatter"):
        zeros, _, values = node.inputs[:3]
        blank = facts.get(zeros)
        empty = blank.constant and (blank.array is None or not np.any(blank.array))
        return "TopKActivation" if empty and _behind(values) == "TopK" else ""
    if node.op_type not in ("Where", "Mul"):
        return ""
    for mask, rest in ((node.inputs[0], node.inputs[1:]), (node.inputs[-1], node.inputs[:-1])):
        made = _back(mask, ("Not", "Cast"))
        if made is None or made.op_type not in _COMPARISONS or not _zero_elsewhere(node, rest, facts):
            continue
        return _of(made, rest, facts)
    return ""


def _of(comparison: ir.Node, kept: Sequence[ir.Value | None], facts: Facts) -> str:
    """What a comparison chooses by."""
    if any(_behind(value) == "TopK" for value in comparison.inputs):
        return "TopKActivation"
    for value, other in (comparison.inputs[:2], comparison.inputs[1::-1]):
        threshold = facts.get(other)
        if threshold.array is None or threshold.array.size != 1:
            continue
        if value in kept and float(threshold.array.reshape(())) > 0.0:
            return "FATReLU"
        if value not in kept and _is_predictor(value, facts):
            return "PredictedSparsity"
    return ""


def _zero_elsewhere(node: ir.Node, rest: Sequence[ir.Value | None], facts: Facts) -> bool:
    """Whether what the mask leaves out becomes 0."""
    if node.op_type == "Mul":
        return True
    return any(
        (array := facts.get(value).array) is not None and array.size == 1 and not np.any(array)
        for value in rest
    )


def _is_predictor(value: ir.Value | None, facts: Facts) -> bool:
    """Whether a score is the product of two matrices, narrow between."""
    up = _back(value, tuple(_ON_THE_WAY))
    if up is None or up.op_type not in _PRODUCTS:
        return False
    down = _back(up.inputs[0], (*_ON_THE_WAY, "Relu"))
    if down is None or down.op_type not in _PRODUCTS:
        return False
    between, out = facts.get(down.outputs[0]).shape, facts.get(up.outputs[0]).shape
    return bool(between and out and between[-1] < out[-1])


def _behind(value: ir.Value | None) -> str:
    """The operator that a value comes from, through what only moves it."""
    made = _back(value, tuple(_ON_THE_WAY))
    return "" if made is None else made.op_type


def _back(value: ir.Value | None, through: tuple[str, ...]) -> ir.Node | None:
    """The node behind a value, and behind nodes of these operators."""
    made = None if value is None else value.producer()
    while made is not None and made.op_type in through:
        made = None if made.inputs[0] is None else made.inputs[0].producer()
    return made
