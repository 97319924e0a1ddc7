"""fold scale: (x W + b) * s  ->  x (W diag(s)) + b * s, for a constant s, and the same with / for *.

One number per channel (LayerScale) or one for all (SkipInit, the alpha of NFNets, Fixup, the temperature of a
softmax, of either sign). Condition: all that lies between the product and the constants is linear and has no
other reader; a divisor has no zeros; in float16 W diag(s) keeps its digits. It saves a pass over the tensor,
and a stream whose writers end in a scale could not be centred: the mean of C W x * s is not zero, that of
C (W diag(s)) x is. A zero s gives zero weights: the branch stays, as what it reads may be infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.digits import Digits
from tautomer.graph.naming import label
from tautomer.passes.linear_maps.weight_check import factors_of, no_divisor, unfit, vanishing
from tautomer.passes.streams.centring import Writer, whole_axes
from tautomer.passes.streams.shift_carriers import carriers
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
            for index in (0, 1) if node.op_type == "Mul" else (0,):
                axes = _channels(work, node, 1 - index)
                if axes is None or work.facts.get(node.inputs[index]).shape != shape:
                    continue
                value, scale = node.inputs[index], node.inputs[1 - index]
                assert value is not None and scale is not None
                writers, between = _writers(work, value, axes)
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
        least, most = factors_of(work, node, scale)
        scaled = [
            constant for writer in writers if (constant := writer.node.inputs[writer.index]) is not None
        ]
        reasons = [no_divisor(work, node, scale)]
        reasons += [unfit(work, constant, most) for constant in (scale, *scaled)]
        reasons += [vanishing(work, constant, least) for constant in scaled]
        reason = next((reason for reason in reasons if reason), "") or work.blind()
        if reason:
            return Remark("missed", self.name, node.op_type, label(node), reason)
        old, where, name = node.outputs[0], label(node), node.outputs[0].name
        for changed in between:  # names speak of the original's values, and these are other values now
            changed.name = work.names.fresh("tautomer/scaled")
        for writer in writers:
            _scale_constant(work, writer, scale, node.op_type)
        work.drop(old, value)
        value.name = name
        kind = "per channel " if work.facts.get(scale).size != 1 else ""
        done = f"its scale {kind}is folded into {len(writers)} constants"
        return Remark("passed", self.name, node.op_type, where, done)


def _products(work: Workspace) -> list[ir.Node]:
    """The products and quotients by elements that are computed when the model runs."""
    return [
        node
        for node in work.model.graph
        if node.op_type in ("Mul", "Div")
        and node.domain in ("", "ai.onnx")
        and not work.facts.get(node.outputs[0]).constant
    ]


def _channels(work: Workspace, node: ir.Node, index: int) -> tuple[int, ...] | None:
    """The axis of the product along which this operand, a constant, varies: none for a number.

    A number between two matrix products is left there, and one behind a product of activations, as scores of
    attention are: runtimes scale a product for nothing, and know attention by its scale.
    """
    fact, out = work.facts.get(node.inputs[index]), work.facts.get(node.outputs[0]).shape
    if not fact.constant or fact.shape is None or out is None or fact.dtype is None:
        return None
    axes = [axis - len(fact.shape) for axis, size in enumerate(fact.shape) if size > 1]
    if len(axes) > 1 or not fact.dtype.is_floating_point() or len(fact.shape) > len(out):
        return None
    if not axes and all(user.op_type == "MatMul" for user, _ in node.outputs[0].uses()):
        return None
    if not axes and _of_activations(work, node.inputs[1 - index]):
        return None
    return tuple(axis + len(out) for axis in axes)


def _of_activations(work: Workspace, value: ir.Value | None) -> bool:
    """Whether a value is a matrix product of two values of which none is constant."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "MatMul":
        return False
    return not any(work.facts.get(operand).constant for operand in node.inputs)


def _writers(work: Workspace, value: ir.Value, axes: tuple[int, ...]) -> tuple[list[Writer], list[ir.Value]]:
    """The constants to scale, and the values between; none when one of those is read elsewhere."""
    shape = work.facts.get(value).shape
    digits = None if shape is None else Digits.along(shape, axes)
    if digits is None or (axes and not digits):
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
        carried = dict(through.through)
        if node.op_type == "Mul" and len(carried) > 1:  # to scale one of the factors is enough
            fixed = [index for index in carried if work.facts.get(node.inputs[index]).constant]
            carried = {index: carried[index] for index in fixed[:1]}
        if through.stop or not carried or (not axes and node.op_type == "Gather"):
            return [], []  # of a table few rows are read
        for index, own in carried.items():
            operand = node.inputs[index]
            assert operand is not None
            fact = work.facts.get(operand)
            if not fact.constant:
                stack.append((operand, own))
            elif fact.shape is None or len(whole_axes(own, fact.shape) or ()) != len(axes):
                return [], []  # one number for many channels
            else:
                writers.append(Writer(node, index, own))
    return writers, between


def _scale_constant(work: Workspace, writer: Writer, scale: ir.Value, operator: str) -> None:
    """W -> W * s or W / s, s along the channels of W, or a number."""
    constant = writer.node.inputs[writer.index]
    assert constant is not None and writer.node.graph is not None
    shape = work.facts.get(constant).shape
    assert shape is not None
    axes = whole_axes(writer.digits, shape)
    assert axes is not None
    b = work.builder(writer.node.graph)
    row = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    factor = b.op("Reshape", scale, b.constant(np.array(row, np.int64)))
    new = b.op(operator, constant, factor)
    work.place(b, writer.node)
    writer.node.replace_input_with(writer.index, new)
