"""The inputs of an attention operator, written from its terms.

    q times / over, k, v, then the mask that is read, then one sink per head

Factors of scores become factors of q: d (q k) = (d q) k.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.passes.attention.terms import MaskTerm, Terms, Unfit, broadcasts
from tautomer.passes.workspace import Workspace


def operands(
    work: Workspace, terms: Terms, builder: Builder, kind: ir.DataType | None
) -> tuple[list[ir.Value], str]:
    """The operator's inputs, and how the axes of q, k and v lie; writes what has to be computed for them.

    Args:
        work: the model.
        terms: of the attention; their scale becomes that of q as it is read.
        builder: where to.
        kind: the element type of q.

    Raises:
        Unfit: an input has another type.
    """
    op = terms.op
    q, k, v = op.heads
    left = q.value
    letters = [q.layout, k.layout, v.layout]
    if v.factor != 1.0:
        raise Unfit("v is multiplied by a number")
    for value in (q.value, k.value, v.value):
        if work.facts.get(value).dtype != kind:
            raise Unfit(f"'{value.name}' has another element type than the result")
    if terms.factors and q.layout != "h":
        left, letters[0] = op.left, "h"
        terms.numbers["scale"] /= q.factor
    left = work.now(left)
    for operator, value in terms.factors:
        if work.facts.get(value).dtype != kind:
            raise Unfit(f"'{value.name}', a factor of scores, has another element type than q")
        left = builder.op(operator, left, work.now(value))
    inputs = [left, work.now(k.value), work.now(v.value)]
    if terms.mask is not None:
        inputs.append(_mask_operand(work, terms, terms.mask, builder, kind))
    if terms.sink is not None:
        inputs.append(_sink_operand(work, terms, terms.sink, builder))
    return inputs, "".join(letters)


def _mask_operand(
    work: Workspace, terms: Terms, mask: MaskTerm, builder: Builder, kind: ir.DataType | None
) -> ir.Value:
    """A boolean that is true where keys stay, or numbers of q's type that are added."""
    value, fact = work.now(mask.value), work.facts.get(mask.value)
    if fact.shape is None or len(fact.shape) > 4 or not broadcasts(fact.shape, terms.shapes[0]):
        raise Unfit(f"the mask '{mask.value.name}' does not have a shape that goes with the scores")
    if mask.keeps is not None:
        return value if mask.keeps else builder.op("Not", value)
    value = builder.op("Neg", value) if mask.negative else value
    return value if fact.dtype == kind else builder.op("Cast", value, to=int(kind or 0))


def _sink_operand(work: Workspace, terms: Terms, sink: ir.Value, builder: Builder) -> ir.Value:
    """One number per head in float32: where the sinks were before they were spread over queries."""
    heads = terms.shapes[0][1]
    value: ir.Value | None = sink
    while value is not None:
        fact = work.facts.get(value)
        if fact.shape is not None and fact.size == heads and all(size in (1, heads) for size in fact.shape):
            flat = (
                value
                if len(fact.shape) == 1
                else builder.op("Reshape", work.now(value), builder.constant(np.array([-1])))
            )
            return (
                flat
                if fact.dtype == ir.DataType.FLOAT
                else builder.op("Cast", flat, to=int(ir.DataType.FLOAT))
            )
        node = value.producer()
        if node is None or node.op_type not in ("Expand", "Reshape", "Unsqueeze", "Cast", "Identity"):
            break
        value = node.inputs[0]
    if _is_one_per_head(sink, heads):
        start, end, axes = (builder.constant(np.array(each)) for each in ([0, 0], [1, 1], [0, 2]))
        first = builder.op("Slice", sink, start, end, axes)
        flat = builder.op("Reshape", first, builder.constant(np.array([-1])))
        same = work.facts.get(sink).dtype == ir.DataType.FLOAT
        return flat if same else builder.op("Cast", flat, to=int(ir.DataType.FLOAT))
    raise Unfit(f"'{sink.name}' is not one score per head")


def _is_one_per_head(sink: ir.Value, heads: int) -> bool:
    """Whether a stored [batch, heads, queries, 1] is sinks that the exporter spread over queries itself."""
    tensor = sink.const_value
    if tensor is None or len(tensor.shape) != 4 or tuple(tensor.shape.numpy()[1::2]) != (heads, 1):
        return False
    array = tensor.numpy()
    return bool(np.all(array == array[:1, :, :1]))
