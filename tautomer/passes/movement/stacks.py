"""Tensors that were joined from others along a new last axis."""

from __future__ import annotations

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.passes.movement.slices import first_of
from tautomer.passes.workspace import Workspace


def joined(work: Workspace, value: ir.Value) -> tuple[tuple[ir.Value, ...], int] | None:
    """What a value has been joined from along its last axis, one element each, without that axis.

    With it where the value begins, which may be a slice of what was joined; None where nothing was.
    """
    node, shape = value.producer(), work.facts.get(value).shape
    if node is None or not shape or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
        return None
    if node.op_type == "Slice":
        whole, first = joined(work, node.inputs[0]), first_of(work, node)
        return None if whole is None or isinstance(first, str) else (whole[0], whole[1] + first)
    if node.op_type != "Concat" or call_of(node, work.version).get("axis", 0) % len(shape) != len(shape) - 1:
        return None
    found: list[ir.Value] = []
    for part in node.inputs:
        made = None if part is None else part.producer()
        size = (work.facts.get(part).shape or (0,))[-1]
        if made is None or (inner := made.inputs[0]) is None or size != 1:
            return None
        filled = made.op_type == "Expand" and work.facts.get(inner).size == 1
        if not (filled or (made.op_type == "Unsqueeze" and adds_the_last(work, made))):
            return None
        found.append(inner)
    return tuple(found), 0


def adds_the_last(work: Workspace, node: ir.Node) -> bool:
    """Whether an Unsqueeze adds one axis, behind all others."""
    before, after = (work.facts.get(value).shape for value in (node.inputs[0], node.outputs[0]))
    return before is not None and after == (*before, 1)
