"""The linear maps that read a value, through whatever only moves its tokens.

One view of MatMul, MatMul + Add and Gemm: y = (x W) * alpha + b * beta, with W [in, out] or [out, in].
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.digits import Digits
from tautomer.graph.naming import label
from tautomer.passes.streams.shift_carriers import carriers
from tautomer.passes.workspace import Workspace

# What moves tokens and leaves channels where they are; padding is not among them: it makes new tokens.
_MOVES = (
    "Flatten",
    "Gather",
    "GatherND",
    "Identity",
    "ReduceMean",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


@dataclass(frozen=True)
class LinearReader:
    """A linear map.

    Attributes:
        node: the MatMul or Gemm.
        weight: its matrix, a constant.
        transposed: whether it is stored [out, in].
        alpha: a factor of the product.
        beta: a factor of the bias.
        adder: the node that reads the bias, and at which input; None where there is none.
        output: the value with the bias in it.
    """

    node: ir.Node
    weight: ir.Value
    transposed: bool
    alpha: float
    beta: float
    adder: tuple[ir.Node, int] | None
    output: ir.Value

    @property
    def bias(self) -> ir.Value | None:
        """The bias."""
        return None if self.adder is None else self.adder[0].inputs[self.adder[1]]


def linear_readers(work: Workspace, value: ir.Value, *, averages: bool = True) -> list[LinearReader] | str:
    """The linear maps that read the last axis of a value, or the first reader that is none.

    Args:
        work: the model.
        value: what is read.
        averages: whether a mean over tokens may stand between; it moves gain and bias through, but no row.

    Returns:
        The readers in graph order, or half a sentence: who reads it and is not linear.
    """
    found: list[LinearReader] = []
    stack = [value]
    while stack:
        top = stack.pop()
        if top.is_graph_output():
            return f"'{top.name}' is an output of the model"
        for node, index in top.uses():
            if node.graph is not value.graph:
                return f"node '{label(node)}' reads it inside a sub-graph"
            if node.op_type in ("MatMul", "Gemm") and index == 0:
                reader = linear_reader(work, node)
                if isinstance(reader, str):
                    return reader
                found.append(reader)
            elif (averages or node.op_type != "ReduceMean") and _only_moves(work, node, index):
                stack += node.outputs
            elif node.op_type not in ("Shape", "Size"):
                return f"node '{label(node)}' ({node.op_type}) reads it and is not linear"
    return found


def moves_behind(work: Workspace, value: ir.Value) -> list[ir.Node]:
    """The nodes that only move tokens between a value and its linear readers, each after what it reads."""
    found: dict[ir.Node, None] = {}
    stack = [value]
    while stack:
        for node, index in stack.pop().uses():
            if node not in found and _only_moves(work, node, index):
                found[node] = None
                stack += node.outputs
    return list(found)


def _only_moves(work: Workspace, node: ir.Node, index: int) -> bool:
    """Whether the last axis of the operand is the last axis of each output, element by element."""
    if node.op_type not in _MOVES or index != 0:
        return False
    value = node.inputs[0]
    shape = work.facts.get(value).shape
    if not shape:
        return False
    facts = [None if operand is None else work.facts.get(operand) for operand in node.inputs]
    call = call_of(node, work.version)
    for output in node.outputs:
        after = work.facts.get(output).shape
        if not after or after[-1] != shape[-1]:
            return False
        row = Digits.along(after, (len(after) - 1,))
        if row is None or carriers(call, facts, after, row).through.get(0) != row:
            return False
    return True


def linear_reader(work: Workspace, node: ir.Node) -> LinearReader | str:
    """The linear map that a MatMul or Gemm is on its first operand, or half a sentence why it is none."""
    weight = node.inputs[1]
    fact = work.facts.get(weight)
    if weight is None or not fact.constant or fact.shape is None or len(fact.shape) != 2:
        return f"node '{label(node)}' ({node.op_type}) multiplies it by something that is no constant matrix"
    output = node.outputs[0]
    if node.op_type == "Gemm":
        call = call_of(node, work.version)
        if call.get("transA", 0):
            return f"node '{label(node)}' (Gemm) reads it transposed"
        has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
        adder = (node, 2) if has_bias and _is_vector(work, node.inputs[2], output) else None
        if has_bias and adder is None:
            return f"node '{label(node)}' (Gemm) adds something that is no constant vector"
        transposed = bool(call.get("transB", 0))
        return LinearReader(
            node, weight, transposed, call.get("alpha", 1.0), call.get("beta", 1.0), adder, output
        )
    uses = list(output.uses())
    if len(uses) == 1 and uses[0][0].op_type == "Add" and not output.is_graph_output():
        add, index = uses[0]
        if _is_vector(work, add.inputs[1 - index], output):
            return LinearReader(node, weight, False, 1.0, 1.0, (add, 1 - index), add.outputs[0])
    return LinearReader(node, weight, False, 1.0, 1.0, None, output)


def _is_vector(work: Workspace, bias: ir.Value | None, output: ir.Value) -> bool:
    """Whether it is a constant that holds one number per output channel."""
    fact, out = work.facts.get(bias), work.facts.get(output).shape
    if not fact.constant or not fact.shape or not out:
        return False
    return fact.size == out[-1] and fact.shape[-1] == out[-1]
