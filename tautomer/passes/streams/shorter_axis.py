"""Taking one element off an axis of a value: what else in the graph speaks of the axis' length.

A node that only passes the axis on has the length in it where it has a shape as an operand (Reshape, Expand),
or a factor that is one number but stored d times. And a Shape further on reads the length off the value.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.workspace import Workspace

_SHAPED = ("Reshape", "Expand")  # by their second operand
_FACTORS = ("Mul", "Div", "Where")


def obstacle(work: Workspace, node: ir.Node, output: ir.Value, axis: int, before: int, length: int) -> str:
    """Why a node cannot pass on an axis with one element less, or "".

    Args:
        work: the model.
        node: it passes the axis on as a whole.
        output: the output that is looked at.
        axis: of the output.
        before: the axis of the operand that is passed on.
        length: of the axis as it is.
    """
    who = f"node '{label(node)}' ({node.op_type})"
    if node.op_type == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None:
        return f"{who} is given the sizes of its result"
    if node.op_type == "Squeeze" and length == 2 and len(node.inputs) < 2:
        return f"{who} would remove the axis when it has one element"
    if node.op_type not in _SHAPED:
        return ""
    shape, rank = work.facts.get(node.inputs[1]).array, len(work.facts.get(output).shape or ())
    if shape is None:
        return f"{who} takes its shape from something that is not known before the model runs"
    if node.op_type == "Expand":
        return ""
    entry = int(shape[axis]) if len(shape) == rank else None
    copied = entry == 0 and before == axis and not node.attributes.get_int("allowzero", 0)
    if entry not in (length, -1) and not copied:
        return f"{who} gives the channel a length in a way that is not understood"
    return ""


def adapt(work: Workspace, node: ir.Node, output: ir.Value, axis: int, length: int) -> None:
    """Makes a node without obstacle give one element less."""
    rank = len(work.facts.get(output).shape or ())
    if node.op_type in _SHAPED:
        fact = work.facts.get(node.inputs[1])
        assert fact.array is not None
        place = axis - rank + len(fact.array)
        if place >= 0 and int(fact.array[place]) == length:
            _take_one(work, node, 1, place)
    elif node.op_type in _FACTORS:
        for index, value in enumerate(node.inputs):
            fact = work.facts.get(value)
            place = axis - rank + len(fact.shape or ())
            if value is not None and fact.constant and place >= 0 and (fact.shape or ())[place] == length:
                _cut(work, node, index, place, length)


def shorten(work: Workspace, value: ir.Value, axis: int) -> None:
    """Says of a value that an axis has one element less, and keeps what Shape nodes tell of it."""
    fact = work.facts.get(value)
    assert fact.shape is not None
    sizes = [size - (position == axis) for position, size in enumerate(fact.shape)]
    work.facts.set(value, replace(fact, shape=tuple(sizes), array=None))
    if value.shape is not None:
        declared = list(value.shape)
        declared[axis] = sizes[axis]
        value.shape = ir.Shape(declared)
    for node, _ in list(value.uses()):
        if node.op_type == "Shape" and node.domain in ("", "ai.onnx"):
            _keep_shape(work, node, len(sizes), axis)


def _keep_shape(work: Workspace, node: ir.Node, rank: int, axis: int) -> None:
    one = np.array([position == axis for position in range(rank)], np.int64)
    start, end = node.attributes.get_int("start", 0), node.attributes.get("end")
    one = one[start : None if end is None else end.as_int()]
    if not one.any():
        return
    output = node.outputs[0]
    fact = work.facts.get(output)
    assert isinstance(node.graph, ir.Graph)
    b = work.builder(node.graph)
    if fact.array is not None:
        work.facts.set(output, replace(fact, array=fact.array - one))
    new = b.op("Add", output, b.constant(one))
    work.follow(output, new, b)
    work.facts.set(new, fact)


def _take_one(work: Workspace, node: ir.Node, index: int, place: int) -> None:
    """shape -> shape - e_place, as a constant where it is one."""
    value = node.inputs[index]
    fact = work.facts.get(value)
    assert value is not None and fact.array is not None and isinstance(node.graph, ir.Graph)
    one = np.array([position == place for position in range(len(fact.array))], np.int64)
    b = work.builder(node.graph)
    less = fact.array.astype(np.int64) - one
    new = b.constant(less) if fact.constant else b.op("Sub", value, b.constant(one))
    node.replace_input_with(index, new)
    work.place(b, node)
    work.facts.set(new, replace(fact, array=less))


def _cut(work: Workspace, node: ir.Node, index: int, place: int, length: int) -> None:
    """x -> x[:d-1]: of equal numbers any d - 1 will do."""
    value = node.inputs[index]
    assert value is not None and isinstance(node.graph, ir.Graph)
    b = work.builder(node.graph)
    starts, ends, axes = (b.constant(np.array([n], np.int64)) for n in (0, length - 1, place))
    new = b.op("Slice", value, starts, ends, axes)
    work.place(b, node)
    node.replace_input_with(index, new)
