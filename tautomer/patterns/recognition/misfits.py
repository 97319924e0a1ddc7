"""Operands that an operator cannot take: graphs that no runtime runs, and powers that only the run knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from tautomer.graph.fact import Shape
from tautomer.graph.naming import label, printable
from tautomer.patterns.operation import definition_of
from tautomer.patterns.recognition.cones import ConeFinder
from tautomer.remarks import Remark

_SUMS = ("Add", "Sub", "Mul", "Div", "Sum", "Mean")
# before these versions operands met in other ways
_SINCE = {"GroupNormalization": 21, "BatchNormalization": 7, "PRelu": 7}


def misfits(finder: ConeFinder) -> Iterator[Remark]:
    """A remark for each node with an operand of the wrong shape, and for each power that is no constant."""
    for node in finder.nodes:
        if not finder.owns(node) or finder.call(node).version < _SINCE.get(node.op_type, 7):
            continue
        x, *others = dict.fromkeys(value for value in node.inputs if value is not None)
        if (
            finder.fact(x).constant and others and node.op_type in _SUMS
        ):  # it is the constant that does not fit
            x, others = others[0], [x, *others[1:]]
        shape = finder.fact(x).shape
        for other in others:
            own, name, first = finder.fact(other).shape, printable(str(other.name)), printable(str(x.name))
            reason, hint = "", ""
            if shape is not None and own is not None and (wanted := _wanted(finder, node, shape, own)):
                reason = f"'{name}' of shape {list(own)} does not go with '{first}' of {list(shape)}"
                hint = f"give '{name}' {wanted}"
            elif node.op_type == "Pow" and not finder.fact(x).constant and not finder.fact(other).constant:
                reason = f"its power '{name}' is computed when the model runs, so that it is no polynomial"
                hint = "export the model with its degree as a constant"
            if reason:
                yield Remark("missed", "recognise", node.op_type, label(node), reason, hint)


def _wanted(finder: ConeFinder, node: ir.Node, shape: Shape, own: Shape) -> str:
    """What an operand would have to be, or "" where it is that."""
    definition = definition_of(node.op_type)
    rows = definition.rows if definition is not None else ""
    if node.op_type == "BatchNormalization" or rows.startswith("channel"):
        return "" if own == shape[1:2] else f"one number for each of {(*shape, 0, 0)[1]} channels"
    if rows == "trailing":
        return "" if _met(own, shape) == shape else f"the shape of a row of {list(shape)}"
    if rows or (node.op_type not in finder.operators.pointwise and node.op_type not in _SUMS):
        return ""
    return "" if _met(own, shape) is not None else "one number, or one for each channel or element"


def _met(one: Shape, other: Shape) -> Shape | None:
    try:
        return np.broadcast_shapes(one, other)
    except ValueError:
        return None
