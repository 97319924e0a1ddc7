"""defer scale: norm -> linear  ->  linear -> factor per row: the normalised tensor is never written.

    RMSNormalization(x) * g W          = r (x (diag(g) W)),                   r = rsqrt(mean x^2 + epsilon)
    (LayerNormalization(x) * g + b) W  = r (x (C diag(g) W)) + b W,           r = rsqrt(var x + epsilon)

with C = I - 11^T/d, which takes the mean of each column away. Condition: every reader of the norm is linear.
It asks nothing of what writes x, so it holds where a stream cannot be centred (Swin, ConvNeXt). Where a mean
is far larger than the deviation of its row the product cancels; the check of the numerics decides about that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.fold_affine import bias_after
from tautomer.passes.linear_maps.into_readers import fold_bias, fold_gain, obstacle
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_readers
from tautomer.passes.row_scaled_matmul import MEAN_SQUARE, VARIANCE, function_of_product
from tautomer.passes.row_scaled_matmul import obstacle as form_obstacle
from tautomer.passes.streams.centred import mean_along
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark


@dataclass(frozen=True)
class DeferScale:
    """Defers norms behind the linear maps that read them.

    Attributes:
        asked: whether the user wants it; no target that is known gains from it without a kernel of ours.
    """

    name: ClassVar[str] = "defer scale"
    asked: bool

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each norm."""
        if not self.asked:
            return []
        remarks = []
        for op in work.operations("LayerNormalization", "RMSNormalization"):
            where = label(op.node)
            reason = _defer(work, op)
            if reason:
                remarks.append(Remark("missed", self.name, op.op, where, reason))
            else:
                done = "its scale is applied behind the linear maps that read it"
                remarks.append(Remark("passed", self.name, op.op, where, done))
        return remarks


def _defer(work: Workspace, op: Recognised) -> str:
    """Rewrites one norm; the reason why not, or ""."""
    x, dtype = op.inputs[0], work.facts.get(op.output).dtype
    assert x is not None
    gain = op.inputs[1] if len(op.inputs) > 1 else None
    shape = work.facts.get(x).shape
    if op.factors or shape is None or op.axes != (len(shape) - 1,):
        return "its rows are not the last axis, or its gain is not a tensor of its own"
    value, bias, add = op.output, op.inputs[2] if len(op.inputs) > 2 else None, None
    if op.op == "RMSNormalization" and (after := bias_after(work, op)) is not None:
        add, bias = after
        value = add.outputs[0]
    readers = linear_readers(work, value, averages=False)
    if isinstance(readers, str):
        return readers
    reason = form_obstacle(work.version, dtype) or ("" if readers else "nothing reads it") or work.blind()
    for row in (gain, bias):
        reason = reason or ("" if row is None else obstacle(work, readers, row))
    if reason:
        return reason
    if bias is not None:
        fold_bias(work, readers, bias)
    if gain is not None:
        fold_gain(work, readers, gain)
    statistic = MEAN_SQUARE if op.op == "RMSNormalization" else VARIANCE
    work.declare(function_of_product(statistic, work.version))
    for reader in readers:
        _scale_product(work, reader, statistic, float(op.attributes["epsilon"]))
    if add is not None:
        work.drop(add.outputs[0], op.output)
    work.drop(op.output, x)
    work.forget(op)
    return ""


def _scale_product(work: Workspace, reader: LinearReader, op: str, epsilon: float) -> None:
    """Puts the product with a factor per row in the place of a MatMul or Gemm."""
    node = reader.node
    assert isinstance(node.graph, ir.Graph)
    b = work.builder(node.graph)
    weight = node.inputs[1]
    assert weight is not None
    matrix = b.op("Transpose", weight, perm=[1, 0]) if reader.transposed else weight
    if op == VARIANCE:
        matrix = b.op("Sub", matrix, mean_along(b, matrix, [0], 2))
    result = b.op(op, node.inputs[0], matrix, domain="tautomer", epsilon=epsilon)
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        result = b.op("Add", result, node.inputs[2])
    work.replace(node.outputs[0], result, b, [node])
