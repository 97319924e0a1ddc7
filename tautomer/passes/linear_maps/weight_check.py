"""Whether a constant may be folded: it can be read, it is finite, and the result fits its type."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tautomer.graph.expression import Expression, expression_of
from tautomer.graph.naming import label, printable
from tautomer.passes.workspace import Workspace

_QUANTIZED = ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")


def expression_behind(work: Workspace, value: ir.Value) -> Expression | str:
    """The expression of a constant, or why it cannot be folded: it is no constant, or a quantized one."""
    if value.is_graph_input():
        return f"'{printable(value.name or '')}' is an input of the model, not a constant"
    fact = work.facts.get(value)
    if fact.dtype is None or fact.shape is None:
        return f"the type or shape of '{printable(value.name or '')}' is not known"
    stack, seen = [value], {value}
    while stack:
        node = stack.pop().producer()
        if node is None:
            continue
        if node.op_type in _QUANTIZED:
            return f"'{printable(value.name or '')}' is quantized: rewrite the model before it is quantized"
        new = [operand for operand in node.inputs if operand is not None and operand not in seen]
        stack += new
        seen.update(new)
    expression = expression_of(value, work.sources, work.model.opset_imports, work.facts)
    if expression is None:
        return f"'{printable(value.name or '')}' is not computed from constants alone"
    return expression


def unfit(work: Workspace, value: ir.Value, growth: float = 2.0) -> str:
    """Why a constant may not be folded, or "".

    Args:
        work: holds the tensors.
        value: the constant.
        growth: by how much folding may enlarge its largest element; centring at most doubles it.
    """
    expression = expression_behind(work, value)
    if isinstance(expression, str):
        return expression
    dtype = work.facts.get(value).dtype
    assert dtype is not None
    if any(work.is_valueless(name) for name in expression.sources):
        return ""  # nothing is folded: the graph computes with what it is given
    if dtype == ir.DataType.DOUBLE:
        return f"'{printable(value.name or '')}' is in DOUBLE, and folding computes in no wider type"
    for name in expression.sources:
        largest = work.largest(name)
        if not np.isfinite(largest):
            return f"'{printable(name)}' has NaN or infinite elements"
        if dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
            limit = float(np.finfo(np.float16).max) if dtype == ir.DataType.FLOAT16 else 3e38
            if largest * growth > limit:
                return (
                    f"'{printable(name)}' holds {largest:.4g}, which folding could carry beyond {dtype.name}"
                )
    return ""


def vanishing(work: Workspace, value: ir.Value, least: float) -> str:
    """Why a matrix in float16 may not be scaled ahead, or "": times the smallest number it is subnormal."""
    fact = work.facts.get(value)
    if fact.dtype != ir.DataType.FLOAT16 or len(fact.shape or ()) < 2 or least >= 1.0:
        return ""
    if largest_of(work, value) * least >= float(np.finfo(np.float16).tiny):
        return ""
    return f"'{printable(value.name or '')}' times {least:.3g} would lose digits in FLOAT16"


def least_of(work: Workspace, value: ir.Value) -> float:
    """The smallest number that stored constants behind a constant multiply by, zeros left out; at most 1."""
    expression, least = expression_behind(work, value), 1.0
    for name in () if isinstance(expression, str) else expression.sources:
        if not work.is_valueless(name):
            numbers = np.abs(np.asarray(work.sources[name].numpy()).astype(np.float64))
            least *= float(np.min(numbers[numbers > 0], initial=1.0))
    return least


def largest_of(work: Workspace, value: ir.Value) -> float:
    """The largest element among the stored constants behind a constant; 1 where it has none."""
    expression = expression_behind(work, value)
    sources = () if isinstance(expression, str) else expression.sources
    return max((work.largest(name) for name in sources if not work.is_valueless(name)), default=1.0)


def factors_of(work: Workspace, node: ir.Node, constant: ir.Value) -> tuple[float, float]:
    """What a product or quotient with a constant multiplies by: the smallest, at most 1, and the largest.

    Args:
        work: holds the tensors.
        node: the Mul, or the Div that divides by the constant.
        constant: the other operand.
    """
    least, most = least_of(work, constant), max(largest_of(work, constant), 1.0)
    return (least, most) if node.op_type == "Mul" else (1.0 / most, 1.0 / least)


def no_divisor(work: Workspace, node: ir.Node, constant: ir.Value) -> str:
    """Why a quotient is no product with finite numbers, or "": also for what is no quotient."""
    if node.op_type != "Div":
        return ""
    array = work.facts.get(constant).array
    if array is None:
        return f"whether '{label(node)}' divides by zero is not known"
    return "" if np.all(array) else f"'{label(node)}' divides by zero"
