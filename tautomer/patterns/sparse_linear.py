"""Sparse linear maps: products whose left factor has exact zeros, as model-local functions.

    SparseLinear(h, W, b)                  = h W + b
    SparseGatedLinear(x, gate, U, c, W, b) = (gate * (x U^T + c)) W + b

W is [neurons, outputs], U is [neurons, inputs]: what belongs to a neuron is one row, which a kernel skips
where h or the gate is zero. A bias is a vector, or one number for all. A kernel gives what the function gives
if W is finite, for 0 * w = 0 for no other w, and U, c are within limits: where the magnitudes of a row of x
add up to less than a limit of their own, x U^T + c is then finite, too. Of other rows it skips nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.graph.call import Call
from tautomer.graph.fact import Shape
from tautomer.graph.shape_rules import Inputs, known, shape_rule
from tautomer.patterns.onnx_body import DOMAIN

PLAIN, GATED = "SparseLinear", "SparseGatedLinear"
INPUTS = {PLAIN: ("h", "W", "b"), GATED: ("x", "gate", "U", "c", "W", "b")}
FORMULAS = {
    PLAIN: "h W + b, row j of W read only where h_j != 0",
    GATED: "(gate * (x U^T + c)) W + b, rows j of U and W read only where gate_j != 0",
}
SOURCE = "arXiv 2402.13516 (ProSparse)"
FEW = 4
"""Rows that may share what is read: of five with nine zeros in ten, four neurons in ten are met by one."""

ROW_LIMITS = {"float32": 2.0**63, "bfloat16": 2.0**63, "float16": 2.0**13}
"""Of what the magnitudes of a row of x add up to."""

WEIGHT_LIMITS = {"float32": 2.0**63, "bfloat16": 2.0**63, "float16": 4.0}
"""Of the magnitudes of U and c."""

TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def is_sparse(op: str) -> bool:
    """Whether an operator of the domain `tautomer` is one of these."""
    return op in INPUTS


def obstacle(dtype: ir.DataType | None) -> str:
    """Why no operator can be written for this type, or ""."""
    return "" if dtype in TYPES else "no kernel is written for its type"


def function_of_sparse(op: str, version: int) -> ir.Function:
    """The function: the operators that it stands for, in the type of its inputs, so it rounds as they did."""
    b = Builder(version, Names(()))
    inputs = [ir.Value(name=name) for name in INPUTS[op]]
    weight, bias = inputs[-2:]
    h = inputs[0]
    if op == GATED:
        x, gate, up, up_bias = inputs[:4]
        h = b.op("Mul", gate, b.op("Add", b.op("MatMul", x, b.op("Transpose", up, perm=[1, 0])), up_bias))
    output = b.op("Add", b.op("MatMul", h, weight), bias)
    output.name = "y"
    graph = ir.Graph(inputs, [output], nodes=b.nodes, opset_imports={"": version}, name=op)
    return ir.Function(DOMAIN, op, graph=graph, attributes=[])


@shape_rule(PLAIN, GATED, domain=DOMAIN)
def sparse_shape(call: Call, inputs: Inputs) -> Sequence[Shape | None]:
    """The shape of h with as many last elements as W has columns."""
    plain = call.op_type == PLAIN
    return [(*known(inputs, 0 if plain else 1)[:-1], known(inputs, 1 if plain else 4)[-1])]
