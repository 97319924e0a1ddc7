"""fold around convolutions: constants that act on an image in front of or behind one  ->  its own constants.

    Conv(x, W, c) + b = Conv(x, W, c + b)
    Conv(x + b, W, c) = Conv(x, W, c + sum over inputs and taps of W b)      without padding
    Conv(s x, W, c)   = Conv(x, s W, c)

b and s are a number or one per channel (Fixup's biases, the beta of NFNets), and - and / stand for + and * as
well (the mean and deviation that images are normalised by). Condition: in front, every reader is a
convolution, and none pads where something is added: in the border there is no b; a divisor has no zeros. A
scale behind is folded by `fold scale`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.naming import label
from tautomer.passes.linear_maps.weight_check import factors_of, largest_of, no_divisor, unfit, vanishing
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_SHIFTS, _SCALES = ("Add", "Sub"), ("Mul", "Div")
_RESHAPES = 5  # the opset since which Reshape takes sizes as an input


@dataclass(frozen=True)
class FoldAroundConvolutions:
    """Folds sums and products with constants into convolutions."""

    name: ClassVar[str] = "fold around convolutions"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each sum or product next to a convolution."""
        remarks = []
        waiting = deque(work.model.graph)
        while waiting:
            node = waiting.popleft()
            if node.graph is None:
                continue
            index = _constant_operand(work, node)
            if index is None or work.version < _RESHAPES:
                continue
            value, constant = node.inputs[1 - index], node.inputs[index]
            assert value is not None and constant is not None
            before, where = value.producer(), label(node)
            after = [
                user for user, position in node.outputs[0].uses() if _is_convolution(work, user, position)
            ]
            if node.op_type in _SHIFTS and before is not None and _is_convolution(work, before, 0):
                reason = _fold_behind(work, node, before, constant)
            elif after:
                reason = _fold_in_front(work, node, value, constant, after)
            else:
                continue
            done = f"its constant is folded into {max(len(after), 1)} convolutions"
            kind, said = ("missed", reason) if reason else ("passed", done)
            remarks.append(Remark(kind, self.name, node.op_type, where, said))  # type: ignore[arg-type]
            if before is not None and not reason:
                waiting.appendleft(before)  # a convolution reads it now
        return remarks


def _constant_operand(work: Workspace, node: ir.Node) -> int | None:
    """Which operand, added to or multiplied with an image, is a constant: a number, or one per channel."""
    out = work.facts.get(node.outputs[0])
    if node.op_type not in (*_SHIFTS, *_SCALES) or node.domain not in ("", "ai.onnx") or out.constant:
        return None
    for index in (0, 1) if node.op_type in ("Add", "Mul") else (1,):
        fact, other = work.facts.get(node.inputs[index]), work.facts.get(node.inputs[1 - index])
        if not fact.constant or fact.shape is None or out.shape is None or other.shape != out.shape:
            continue
        rank = len(out.shape)
        channels = len(fact.shape) >= rank - 1 > 1 and fact.size == out.shape[1] == fact.shape[1 - rank]
        if len(fact.shape) <= rank and (fact.size == 1 or channels):
            return index
    return None


def _is_convolution(work: Workspace, node: ir.Node, position: int) -> bool:
    return (
        node.op_type == "Conv"
        and position == 0
        and node.domain in ("", "ai.onnx")
        and node.graph is work.model.graph
        and all(work.facts.get(value).constant for value in node.inputs[1:] if value is not None)
    )


def _obstacle(work: Workspace, node: ir.Node, constant: ir.Value, convolutions: list[ir.Node]) -> str:
    """Why the constant of a node may not be folded into these convolutions, or ""."""
    least, growth = 1.0, max(largest_of(work, constant), 1.0)
    if node.op_type in _SCALES:
        least, growth = factors_of(work, node, constant)
    held = [value for each in convolutions for value in each.inputs[1:] if value is not None]
    weights = [each.inputs[1] for each in convolutions]
    reasons = [no_divisor(work, node, constant)]
    reasons += [unfit(work, value, growth) for value in (constant, *held)]
    reasons += [vanishing(work, weight, least) for weight in weights if weight is not None]
    return next((reason for reason in reasons if reason), "") or work.blind()


def _fold_behind(work: Workspace, node: ir.Node, convolution: ir.Node, constant: ir.Value) -> str:
    """c + b; the reason why not, or ""."""
    value = convolution.outputs[0]
    if len(value.uses()) != 1 or value.is_graph_output():
        return f"node '{label(convolution)}' has other readers, who want its result without the bias"
    reason = _obstacle(work, node, constant, [convolution])
    if reason:
        return reason
    b = _builder(work, convolution)
    _add_bias(work, b, convolution, node.op_type, _row(work, b, convolution, constant))
    old, name = node.outputs[0], node.outputs[0].name
    value.name = work.names.fresh("tautomer/shifted")  # names speak of the original's values
    work.drop(old, value)
    value.name = name
    return ""


def _fold_in_front(
    work: Workspace, node: ir.Node, value: ir.Value, constant: ir.Value, convolutions: list[ir.Node]
) -> str:
    """s W, or c + W b; the reason why not, or ""."""
    old = node.outputs[0]
    if len(old.uses()) != len(convolutions) or old.is_graph_output():
        return "a convolution reads it, and others do, too"
    for convolution in convolutions:
        call = call_of(convolution, work.version)
        padded = any(call.get("pads", ())) or call.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        if node.op_type in _SHIFTS and padded:
            return f"node '{label(convolution)}' pads with zeros, to which it adds nothing"
        if work.facts.get(constant).size != 1 and call.get("group", 1) != 1:
            return f"node '{label(convolution)}' has groups of channels"
    reason = _obstacle(work, node, constant, convolutions)
    if reason:
        return reason
    for convolution in convolutions:
        b = _builder(work, convolution)
        weight = convolution.inputs[1]
        rank = len(work.facts.get(weight).shape or ())
        size = work.facts.get(constant).size or 1
        along = b.op("Reshape", constant, b.constant(np.array([1, size, *[1] * (rank - 2)], np.int64)))
        product = b.op("Div" if node.op_type == "Div" else "Mul", weight, along)
        if node.op_type in _SCALES:
            work.place(b, convolution)
            convolution.replace_input_with(1, product)
        else:
            total = b.reduce("ReduceSum", product, tuple(range(1, rank)), keepdims=False)
            _add_bias(work, b, convolution, node.op_type, total)
    work.drop(old, value)
    return ""


def _add_bias(work: Workspace, b: Builder, convolution: ir.Node, operator: str, row: ir.Value) -> None:
    """Adds a row to the bias of a convolution or takes it off, or gives it one."""
    held = convolution.inputs[2] if len(convolution.inputs) > 2 else None
    if held is not None:
        row = b.op(operator, held, row)
    elif operator == "Sub":
        row = b.op("Neg", row)
    work.place(b, convolution)
    if held is None:
        convolution.resize_inputs(3)
    convolution.replace_input_with(2, row)


def _row(work: Workspace, b: Builder, convolution: ir.Node, constant: ir.Value) -> ir.Value:
    """The constant as a bias: one number per output channel."""
    channels = (work.facts.get(convolution.inputs[1]).shape or (1,))[0]
    flat = b.op("Reshape", constant, b.constant(np.array([-1], np.int64)))
    if work.facts.get(constant).size == channels:
        return flat
    return b.op("Expand", flat, b.constant(np.array([channels], np.int64)))


def _builder(work: Workspace, node: ir.Node) -> Builder:
    assert isinstance(node.graph, ir.Graph)
    return work.builder(node.graph)
