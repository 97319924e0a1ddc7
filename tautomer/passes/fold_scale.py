"""fold scale: (x W + b) * s  ->  x (W diag(s)) + b * s, for a constant s per channel (LayerScale).

Condition: all that lies between the product and the constants is linear and has no other reader. It saves a
pass over the tensor, and a stream whose writers end in a scale could not be centred: the mean of C W x * s is
not zero, that of C (W diag(s)) x is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.digits import Digits
from tautomer.graph.naming import label
from tautomer.passes.centring import Writer, whole_axes
from tautomer.passes.shift_carriers import carriers
from tautomer.passes.weight_check import largest_of, unfit
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark


@dataclass(frozen=True)
class FoldScale:
    """Folds constant scales per channel into what they scale."""

    name: ClassVar[str] = "fold scale"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each scale."""
        remarks = []
        for node in _products(work):
            shape = work.facts.get(node.outputs[0]).shape
            for index in (0, 1):
                axis = _channel(work, node, 1 - index)
                if axis is None or work.facts.get(node.inputs[index]).shape != shape:
                    continue
                value, scale = node.inputs[index], node.inputs[1 - index]
                assert value is not None and scale is not None
                writers, between = _writers(work, value, axis)
                if writers:
                    remarks.append(self._fold(work, node, value, scale, writers, between))
                    break
        return remarks

    def _fold(
        self,
        work: Workspace,
        node: ir.Node,
        value: ir.Value,
        scale: ir.Value,
        writers: list[Writer],
        between: list[ir.Value],
    ) -> Remark:
        growth = max(largest_of(work, scale), 1.0)
        constants = [scale, *(writer.node.inputs[writer.index] for writer in writers)]
        reasons = [unfit(work, constant, growth) for constant in constants if constant is not None]
        reason = next((reason for reason in reasons if reason), "") or work.blind()
        if reason:
            return Remark("missed", self.name, "Mul", label(node), reason)
        old, where, name = node.outputs[0], label(node), node.outputs[0].name
        for changed in between:  # names speak of the original's values, and these are other values now
            changed.name = work.names.fresh("tautomer/scaled")
        for writer in writers:
            _scale_constant(work, writer, scale)
        work.drop(old, value)
        value.name = name
        done = f"its scale per channel is folded into {len(writers)} constants"
        return Remark("passed", self.name, "Mul", where, done)


def _products(work: Workspace) -> list[ir.Node]:
    """The products by elements that are computed when the model runs."""
    return [
        node
        for node in work.model.graph
        if node.op_type == "Mul"
        and node.domain in ("", "ai.onnx")
        and not work.facts.get(node.outputs[0]).constant
    ]


def _channel(work: Workspace, node: ir.Node, index: int) -> int | None:
    """The axis of the product along which this operand, a constant of several numbers, varies."""
    fact, out = work.facts.get(node.inputs[index]), work.facts.get(node.outputs[0]).shape
    if not fact.constant or fact.shape is None or out is None or fact.dtype is None:
        return None
    axes = [axis - len(fact.shape) for axis, size in enumerate(fact.shape) if size > 1]
    if len(axes) != 1 or not fact.dtype.is_floating_point() or len(fact.shape) > len(out):
        return None
    return axes[0] + len(out)


def _writers(work: Workspace, value: ir.Value, axis: int) -> tuple[list[Writer], list[ir.Value]]:
    """The constants to scale, and the values between; none when one of those is read elsewhere."""
    shape = work.facts.get(value).shape
    digits = None if shape is None else Digits.along(shape, (axis,))
    if not digits:
        return [], []
    writers: list[Writer] = []
    between: list[ir.Value] = []
    stack = [(value, digits)]
    while stack:
        top, wanted = stack.pop()
        node, out = top.producer(), work.facts.get(top).shape
        if (
            node is None
            or out is None
            or len(node.outputs) > 1
            or len(top.uses()) != 1
            or top.is_graph_output()
        ):
            return [], []
        facts = [None if operand is None else work.facts.get(operand) for operand in node.inputs]
        between.append(top)
        through = carriers(call_of(node, work.version), facts, out, wanted)
        if through.stop:
            return [], []
        for index, own in through.through.items():
            operand = node.inputs[index]
            assert operand is not None
            fact = work.facts.get(operand)
            if not fact.constant:
                stack.append((operand, own))
            elif fact.shape is None or len(whole_axes(own, fact.shape) or ()) != 1:
                return [], []  # one number for many channels
            else:
                writers.append(Writer(node, index, own))
    return writers, between


def _scale_constant(work: Workspace, writer: Writer, scale: ir.Value) -> None:
    """W -> W * s, s along the channels of W."""
    constant = writer.node.inputs[writer.index]
    assert constant is not None and writer.node.graph is not None
    shape = work.facts.get(constant).shape
    assert shape is not None
    axes = whole_axes(writer.digits, shape)
    assert axes is not None
    b = work.builder(writer.node.graph)
    row = [shape[axis] if axis == axes[0] else 1 for axis in range(len(shape))]
    factor = b.op("Reshape", scale, b.constant(np.array(row, np.int64)))
    new = b.op("Mul", constant, factor)
    work.place(b, writer.node)
    writer.node.replace_input_with(writer.index, new)
