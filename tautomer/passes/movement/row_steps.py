"""Operators that treat each row of a tensor alike, written for a chunk of its rows.

A tensor [..., w] has its rows along the last axis, and is a matrix [rows, w] here: what moves no element from
one row to another does nothing, other operators work along axis 1. Losses of classes give one number per row,
which are added up behind all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import Call, call_of
from tautomer.graph.naming import label
from tautomer.passes.workspace import Workspace

_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_POINTWISE = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Clip",
        "Div",
        "Exp",
        "Log",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Pow",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Tanh",
    ]
)
_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "ReduceLogSumExp")
LOSSES = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
_CLASSES_SECOND = [0, 2, 1]
_LAST_AXIS_SINCE = 13  # before, Softmax flattened what came behind its axis

Chunk = Callable[[ir.Value], ir.Value]
"""Gives a value for the rows at hand: one of the chunk, or a part of a tensor with one entry per row."""


@dataclass(frozen=True)
class Step:
    """What becomes of an operator.

    Attributes:
        rows: the tensors with entries for each row that it reads from outside, and how many for one.
        write: writes it for a chunk; its result is a matrix, of the chunk's rows.
        finish: writes what comes behind all rows; None where that is the matrix in the shape of the result.
    """

    rows: Mapping[ir.Value, int]
    write: Callable[[Builder, Chunk], ir.Value]
    finish: Callable[[Builder, ir.Value, Chunk], ir.Value] | None = None


def step_of(work: Workspace, node: ir.Node, inside: Mapping[ir.Value, Any]) -> Step | str:
    """How an operator treats rows, or half a sentence: what it does instead.

    Args:
        work: the model.
        node: it reads a tensor of rows.
        inside: the tensors of rows so far.
    """
    where = f"node '{label(node)}' ({node.op_type})"
    if node.domain not in ("", "ai.onnx") or any(x.uses() or x.is_graph_output() for x in node.outputs[1:]):
        return f"{where} is not known to treat rows alike"
    call = call_of(node, work.version)
    if node.op_type in _POINTWISE:
        return _pointwise(work, node, call, inside) or f"{where} reads what has other rows"
    x = node.inputs[0]
    if x not in inside or x is None:
        return f"{where} reads them at another place"
    rule = _RULES.get(node.op_type)
    return (None if rule is None else rule(work, node, call, x)) or f"{where} does not treat rows alike"


def _shapes(work: Workspace, value: ir.Value | None) -> list[tuple[int, ...]]:
    """The shapes of a value at two sizes; none where they are not known."""
    found = [facts.get(value).shape for facts in (work.facts, work.recognition.elsewhere())]
    if found[1] is None and value is not None:
        found[1] = work.recognition.elsewhere().get(work.origin(value)).shape
    return [shape for shape in found if shape is not None] if None not in found else []


def _pointwise(work: Workspace, node: ir.Node, call: Call, inside: Mapping[ir.Value, Any]) -> Step | None:
    out = _shapes(work, node.outputs[0])
    rows: dict[ir.Value, int] = {}
    for value in node.inputs:
        if value is None:
            continue
        shapes = _shapes(work, value)
        if not out or not shapes:
            return None
        per_row = all(a == (*b[:-1], 1) for a, b in zip(shapes, out, strict=True))
        of_a_row = len(shapes[0]) == 1 and shapes[0][-1] == out[0][-1]
        number = work.facts.get(value).size == 1 and len(shapes[0]) <= 2
        if value in inside and (shapes == out or per_row):
            continue
        if value in inside or not (number or of_a_row or per_row):
            return None
        if not (number or of_a_row):
            rows[value] = 1

    def write(b: Builder, chunk: Chunk) -> ir.Value:
        operands = [
            value if value is None or not (value in inside or value in rows) else chunk(value)
            for value in node.inputs
        ]
        return b.op(node.op_type, *operands, **dict(call.attributes))

    return Step(rows, write)


def _moved(work: Workspace, node: ir.Node, call: Call, x: ir.Value) -> Step | None:
    before, after = _shapes(work, x), _shapes(work, node.outputs[0])
    same = before and after and all(a and b and a[-1] == b[-1] for a, b in zip(before, after, strict=True))
    return Step({}, lambda b, chunk: chunk(x)) if same else None


def _classes_moved(work: Workspace, node: ir.Node, call: Call, x: ir.Value) -> Step | None:
    """Rows in front of classes for a loss, which wants the classes at the second place."""
    losses = all(user.op_type in LOSSES and slot == 0 for user, slot in node.outputs[0].uses())
    turned = list(call.get("perm") or ()) == _CLASSES_SECOND and not node.outputs[0].is_graph_output()
    return Step({}, lambda b, chunk: chunk(x)) if losses and turned else None


def _normalised(work: Workspace, node: ir.Node, call: Call, x: ir.Value) -> Step | None:
    last = len(work.facts.get(x).shape or ()) - 1
    if work.version < _LAST_AXIS_SINCE or int(call.get("axis", -1)) % (last + 1) != last:
        return None
    return Step({}, lambda b, chunk: b.op(node.op_type, chunk(x), axis=-1))


def _reduced(work: Workspace, node: ir.Node, call: Call, x: ir.Value) -> Step | None:
    rank = len(work.facts.get(x).shape or ())
    axes: Sequence[int] | None = call.get("axes")
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        known = work.facts.get(node.inputs[1]).array
        axes = None if known is None else [int(axis) for axis in known.reshape(-1)]
    if axes is None or [axis % rank for axis in axes] != [rank - 1]:
        return None
    # below opset 18 axes count from the front in the attribute of some runtimes
    return Step({}, lambda b, chunk: b.reduce(node.op_type, chunk(x), [1]))


def _largest(work: Workspace, node: ir.Node, call: Call, x: ir.Value) -> Step | None:
    rank = len(work.facts.get(x).shape or ())
    if int(call.get("axis", 0)) % rank != rank - 1:
        return None
    named = {**dict(call.attributes), "axis": 1, "keepdims": 1}
    return Step({}, lambda b, chunk: b.op(node.op_type, chunk(x), **named))


def _picked(work: Workspace, node: ir.Node, call: Call, x: ir.Value) -> Step | None:
    index = node.inputs[1]
    own, places = _shapes(work, x), _shapes(work, index)
    alike = own and places and all(a[:-1] == b[:-1] for a, b in zip(own, places, strict=True))
    if index is None or not alike or int(call.get("axis", 0)) % len(own[0]) != len(own[0]) - 1:
        return None
    return Step(
        {index: places[0][-1]}, lambda b, chunk: b.op("GatherElements", chunk(x), chunk(index), axis=1)
    )


def _lost(work: Workspace, node: ir.Node, call: Call, x: ir.Value) -> Step | None:
    """-log_softmax(x)[t], 0 where t is to be ignored; their sum, or mean over the others."""
    target, shape, kind = node.inputs[1], work.facts.get(x).shape or (), work.facts.get(x).dtype
    weighted = len(node.inputs) > 2 and node.inputs[2] is not None
    turned = (made := x.producer()) is not None and made.op_type == "Transpose"
    integers = work.facts.get(target).dtype
    if target is None or weighted or len(shape) != 2 + turned or kind is None or integers is None:
        return None
    ignored, reduction = call.get("ignore_index"), call.get("reduction", "mean")

    def number(b: Builder, value: int) -> ir.Value:
        return b.constant(np.array(value, integers.numpy()))

    def write(b: Builder, chunk: Chunk) -> ir.Value:
        rows, index = chunk(x), chunk(target)
        hit = None if ignored is None else b.op("Equal", index, number(b, ignored))
        safe = index if hit is None else b.op("Where", hit, number(b, 0), index)
        logs = b.op("LogSoftmax", rows, axis=-1) if node.op_type == LOSSES[0] else rows
        loss = b.op("Neg", b.op("GatherElements", logs, safe, axis=1))
        return loss if hit is None else b.op("Where", hit, b.scalar(0.0, kind), loss)

    def finish(b: Builder, losses: ir.Value, whole: Chunk) -> ir.Value:
        if reduction == "mean" and ignored is None:
            return b.reduce("ReduceMean", losses, [0, 1], keepdims=False)
        total = b.reduce("ReduceSum", losses, [0, 1], keepdims=False)
        if reduction == "sum":
            return total
        counted = b.op("Not", b.op("Equal", whole(target), number(b, ignored)))
        return b.op("Div", total, b.reduce("ReduceSum", b.op("Cast", counted, to=int(kind)), [0, 1], False))

    return Step({target: 1}, write, None if reduction == "none" else finish)


_RULES: dict[str, Callable[[Workspace, ir.Node, Call, ir.Value], Step | None]] = {
    **dict.fromkeys(_MOVES, _moved),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _normalised),
    **dict.fromkeys(_REDUCTIONS, _reduced),
    **dict.fromkeys(LOSSES, _lost),
    "ArgMax": _largest,
    "GatherElements": _picked,
    "Transpose": _classes_moved,
}
