"""Nodes that onnxruntime computes together with a matrix product or a convolution, for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from tautomer.graph.facts import Facts

_AFTER_CONVOLUTION = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid"})
_FOLDED_INTO_CONVOLUTION = frozenset({"Add", "Mul", "BatchNormalization"})
_IMAGES = frozenset({"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
SLOW_REDUCTIONS = frozenset({"ReduceLogSumExp", "ReduceSumSquare", "ReduceL1", "ReduceL2"})
"""Of 4096 rows of 1000 numbers onnxruntime 1.32 takes 31.7 ms for the first and 4.0 for the others on Zen 3,
kernels of ours 2.5 and 1.0; it takes 1.4 for a maximum."""

_SCALES = frozenset({"Mul", "Div"})


def left_to_the_runtime(nodes: Sequence[ir.Node], facts: Facts) -> dict[ir.Node, str]:
    """The nodes that must stay as they are, and why.

    These are fusions that onnxruntime 1.31 was seen to do with all its optimizations on: Gemm of a product of
    two matrices and a sum, FusedMatMul of a product and a number, activations and constants of channels in a
    convolution. A sum behind a product of more axes is not among them.
    """
    found: dict[ir.Node, str] = {}
    for node in nodes:
        if node.domain not in ("", "ai.onnx"):
            continue
        for value in node.inputs:
            made = None if value is None else value.producer()
            if made is None or value is None or len(value.uses()) != 1:
                continue
            others = [other for other in node.inputs if other is not None and other is not value]
            reason = _fused_after(made, node, others, facts)
            if reason:
                found[node] = reason
        if node.op_type in _SCALES and _is_scale(node, facts):
            users = [user for user, _ in node.outputs[0].uses()]
            if users and all(user.op_type == "MatMul" for user in users):
                found[node] = "the runtime scales the product that reads it"
    return found


def _fused_after(made: ir.Node, node: ir.Node, others: Sequence[ir.Value], facts: Facts) -> str:
    """Why a node is no work of its own behind another, or ""."""
    op = node.op_type
    constant = all(facts.get(other).constant for other in others)
    if made.op_type == "Conv":
        fused = op in _AFTER_CONVOLUTION or (op in _FOLDED_INTO_CONVOLUTION and constant)
        return "the runtime computes it with the convolution before it" if fused else ""
    if made.op_type == "Gemm":
        return "the runtime computes it with the product before it" if op in _AFTER_CONVOLUTION else ""
    if made.op_type == "MatMul":
        rank = len(facts.get(made.outputs[0]).shape or ())
        if (op == "Add" and constant and rank == 2) or (op in _SCALES and _is_scale(node, facts)):
            return "the runtime computes it with the product before it"
    return ""


def between_convolutions(read: Iterable[ir.Value], results: Iterable[ir.Value]) -> bool:
    """Whether values are computed from what a convolution gives, or read by one, without a step between.

    onnxruntime keeps images in a layout of its own there, which its pointwise operators know and ours do not.
    """
    made = (value.producer() for value in read)
    users = (user for result in results for user, _ in result.uses())
    return any(node is not None and node.op_type in _IMAGES for node in (*made, *users))


def _is_scale(node: ir.Node, facts: Facts) -> bool:
    """Whether a node multiplies or divides by one constant number."""
    factor = facts.get(node.inputs[1] if node.op_type == "Div" else node.inputs[0])
    other = facts.get(node.inputs[1])
    return any(fact.constant and fact.size == 1 for fact in (factor, other))
