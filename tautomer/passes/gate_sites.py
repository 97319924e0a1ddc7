"""Where a graph chooses the k largest of a softmax, or takes the softmax of the k largest."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.semantics.reductions import axes_of
from tautomer.passes.workspace import Workspace
from tautomer.patterns.expert_gate import SINCE


def choices_of(work: Workspace) -> list[ir.Node]:
    """The nodes of the main graph that choose the largest, and whose values somebody reads."""
    found = []
    for node in work.model.graph:
        if node.op_type == "TopK" and not node.domain and node.inputs[0] is not None:
            values = node.outputs[0]
            found += [node] if values.uses() or values.is_graph_output() else []
    return found


def softmax_before(work: Workspace, topk: ir.Node) -> tuple[ir.Value, Sequence[ir.Node]] | None:
    """What the softmax is of that a choice reads, and its nodes; None where there is no softmax."""
    for op in work.operations("Softmax"):
        if op.output is topk.inputs[0] and op.inputs[0] is not None and not op.special:
            return (op.inputs[0], op.nodes) if _is_of_rows(work, op.axes, op.output) else None
    return None


def softmax_behind(work: Workspace, topk: ir.Node) -> Sequence[ir.Node]:
    """The nodes of a softmax over rows that alone reads the chosen values; () where there is none."""
    values = topk.outputs[0]
    readers = {user for user, _ in values.uses()}
    if values.is_graph_output() or work.version < SINCE:
        return ()
    for op in work.operations("Softmax"):
        if op.inputs[0] is values and not op.special and _is_of_rows(work, op.axes, values):
            return op.nodes if readers <= set(op.nodes) else ()
    first, *others = readers or (None,)
    if first is None or others or first.op_type != "Softmax" or first.domain:
        return ()
    rank = len(work.facts.get(values).shape or ())
    axis = call_of(first, work.version).get("axis", -1)
    return (first,) if _is_of_rows(work, (axis % rank,) if rank else (), values) else ()


def _is_of_rows(work: Workspace, axes: tuple[int, ...], value: ir.Value) -> bool:
    rank = len(work.facts.get(value).shape or ())
    return rank > 0 and tuple(axes) == (rank - 1,) and work.version >= SINCE


def obstacle(work: Workspace, topk: ir.Node) -> str:
    """Why a choice is none of the largest along the last axis, or ""."""
    rank = len(work.facts.get(topk.inputs[0]).shape or ())
    call = call_of(topk, work.version)
    if not rank or call.get("axis", -1) % rank != rank - 1:
        return "its experts do not lie along the last axis"
    return "" if call.get("largest", 1) else "it takes the smallest probabilities"


def read_elsewhere(topk: ir.Node) -> str:
    """Why the softmax in front of a choice is needed for others, or ""."""
    value = topk.inputs[0]
    assert value is not None
    shared = len(value.uses()) != 1 or value.is_graph_output()
    return "the probabilities of all experts are read elsewhere, too" * shared


def share_of(work: Workspace, topk: ir.Node) -> tuple[ir.Node, ir.Node] | str:
    """The sum of the chosen values and the division by it, or why they are not renormalised."""
    values = topk.outputs[0]
    rank = len(work.facts.get(topk.inputs[0]).shape or ())
    users = {user.op_type: user for user, _ in values.uses()}
    total, division = users.get("ReduceSum"), users.get("Div")
    if total is None or division is None:
        return "the weights of the chosen experts are not renormalised, so they depend on the others"
    if set(users) != {"ReduceSum", "Div"} or len(values.uses()) != 2 or values.is_graph_output():
        return "the probabilities of the chosen experts are read elsewhere, too"
    if division.inputs[0] is not values or division.inputs[1] is not total.outputs[0]:
        return "the weights are divided by something else than their sum"
    given = work.facts.get(total.inputs[1]).array if len(total.inputs) > 1 else None
    own = call_of(total, work.version)
    axes = axes_of(own, None if given is None else [int(axis) for axis in given.reshape(-1)], rank)
    if tuple(axes) != (rank - 1,) or not own.get("keepdims", 1) or len(total.outputs[0].uses()) != 1:
        return "the weights are divided by something else than their sum"
    if total.outputs[0].is_graph_output():
        return "the sum of the chosen probabilities is an output, too"
    return total, division
