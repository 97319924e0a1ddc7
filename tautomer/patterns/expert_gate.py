"""Gates of mixtures of experts: k experts of each row of scores, and their weights, as model-local functions.

    ExpertGate_probabilities(x, k) = w, i    where w, i = topk(softmax(x))
    ExpertGate_shares(x, k)        = w, i    where v, i = topk(softmax(x)) and w = v / sum(v)
    ExpertGate_logits(x, k)        = w, i    where u, i = topk(x) and w = softmax(u)

x is [..., experts] in float32, k one number in an int64 tensor; w is [..., k] in float32 and i in int64, the
largest first, and of equals the one that comes first in x. In the first two, experts are compared by their
probabilities as they are rounded: of experts that softmax rounds to one probability, or to zero, the first is
chosen. Scores that differ by a rounding may come in either order, as in any two implementations of softmax.
A row with NaN or +infinity, or of nothing but -infinity, has no probabilities: their order is that of x, and
all weights are NaN. In the third NaN is above all, as numpy and torch have it, and makes all weights NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.graph.call import Call
from tautomer.graph.fact import Shape
from tautomer.graph.shape_rules import Inputs, known, numbers, shape_rule, type_rule
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.same_function import same_function

FAMILY = "ExpertGate"
PROBABILITIES, SHARES, LOGITS = (f"{FAMILY}_{form}" for form in ("probabilities", "shares", "logits"))
FORMULAS = {
    PROBABILITIES: "topk(softmax(x))",
    SHARES: "v / sum(v), v = topk(softmax(x))",
    LOGITS: "softmax(topk(x))",
}
INPUTS = ("x", "k")
SOURCE = "arXiv 2401.04088 (Mixtral)"
MOST_EXPERTS, MOST_CHOSEN = 512, 32
"""Of a kernel, which has memory of a fixed size, and goes through the chosen for each expert."""

SINCE = 13
"""The opset from which on Softmax works on one axis."""


def is_gate(op: str) -> bool:
    """Whether an operator of the domain `tautomer` is one of these."""
    return op in FORMULAS


def function_of_gate(op: str, version: int) -> ir.Function:
    """The function: the operators that it stands for."""
    b = Builder(version, Names(()))
    x, k = (ir.Value(name=name) for name in INPUTS)
    scores = x if op == LOGITS else b.op("Softmax", x, axis=-1)
    weights, experts = b.several("TopK", 2, scores, k, axis=-1, largest=1, sorted=1)
    if op == SHARES:
        weights = b.op("Div", weights, b.reduce("ReduceSum", weights, (-1,)))
    elif op == LOGITS:
        weights = b.op("Softmax", weights, axis=-1)
    weights.name, experts.name = "w", "i"
    graph = ir.Graph([x, k], [weights, experts], nodes=b.nodes, opset_imports={"": version}, name=op)
    return ir.Function(DOMAIN, op, graph=graph, attributes=[])


def is_written_by_us(function: ir.Function) -> bool:
    """Whether a function of a file, which is untrusted, is the one that its name says."""
    version = function.opset_imports.get("", 0)
    if function.domain != DOMAIN or not is_gate(function.name) or version < SINCE:
        return False
    return same_function(function_of_gate(function.name, version), function)


@shape_rule(*FORMULAS, domain=DOMAIN)
def gate_shapes(call: Call, x: Inputs) -> Sequence[Shape | None]:
    """k along the last axis."""
    (count,) = numbers(call, x, "", 1) or [0]
    return [(*known(x, 0)[:-1], count)] * 2


@type_rule(*FORMULAS, domain=DOMAIN)
def gate_types(call: Call, x: Inputs) -> Sequence[ir.DataType | None]:
    """Weights of the type of x, and places."""
    return [None if x[0] is None else x[0].dtype, ir.DataType.INT64]
