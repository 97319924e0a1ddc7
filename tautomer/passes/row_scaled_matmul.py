"""RowScaledMatMul: a product with a factor per row, as a model-local function in plain ONNX operators.

    RowScaledMatMul(x, W)        = rsqrt(mean(x^2) + epsilon) * (x W)
    CentredRowScaledMatMul(x, W) = rsqrt(mean((x - mean x)^2) + epsilon) * (x W)

Source: the deferred normalisation of FlashNorm, arXiv 2407.09577.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.patterns.onnx_body import CASTLIKE_SINCE, DOMAIN, PARAMETERS_SINCE

MEAN_SQUARE, VARIANCE = "RowScaledMatMul", "CentredRowScaledMatMul"


def obstacle(version: int, dtype: ir.DataType | None) -> str:
    """Why the function cannot be written for this opset and type, or ""."""
    since = PARAMETERS_SINCE if dtype == ir.DataType.FLOAT else CASTLIKE_SINCE
    if dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return "its function body computes in FLOAT, and this one is in another type"
    return "" if version >= since else f"its function body needs opset {since}"


def function_of_product(op: str, version: int) -> ir.Function:
    """The function; it computes in float32 whatever the type of x, on rows of the last axis."""
    b = Builder(version, Names(()))
    x, weight = ir.Value(name="x"), ir.Value(name="W")
    epsilon = b.op("Constant", value_float=ir.RefAttr("value_float", "epsilon", ir.AttributeType.FLOAT))
    wide = b.op("Cast", x, to=int(ir.DataType.FLOAT))
    product = b.op("MatMul", wide, b.op("Cast", weight, to=int(ir.DataType.FLOAT)))
    row = wide if op == MEAN_SQUARE else b.op("Sub", wide, b.reduce("ReduceMean", wide, [-1]))
    square = b.op("Pow", row, b.constant(np.array(2.0, np.float32)))
    statistic = b.op("Add", b.reduce("ReduceMean", square, [-1]), epsilon)
    result = b.op("Div", product, b.op("Sqrt", statistic))
    output = b.op("CastLike", result, x) if version >= CASTLIKE_SINCE else b.op("Identity", result)
    output.name = "y"
    graph = ir.Graph([x, weight], [output], nodes=b.nodes, opset_imports={"": version}, name=op)
    return ir.Function(DOMAIN, op, graph=graph, attributes=[ir.Attr("epsilon", ir.AttributeType.FLOAT, None)])
