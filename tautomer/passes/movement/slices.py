"""Slices of the last axis."""

from __future__ import annotations

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.naming import label
from tautomer.graph.shape_rules import numbers
from tautomer.passes.workspace import Workspace


def first_of(work: Workspace, node: ir.Node) -> int | str:
    """Where a Slice that leaves all but the last axis whole begins there, or why it is another one."""
    call, facts = call_of(node, work.version), work.facts
    given = [facts.get(value) for value in node.inputs]
    rank = len(given[0].shape or ())
    axes = numbers(call, given, "axes", 3) or list(range(rank))
    steps = numbers(call, given, "steps", 4) or [1] * len(axes)
    starts = numbers(call, given, "starts", 1)
    before, after = given[0].shape, facts.get(node.outputs[0]).shape
    if starts is None or before is None or after is None or any(step != 1 for step in steps):
        return f"node '{label(node)}' (Slice) takes other numbers in each run, or every second one"
    if before[:-1] != after[:-1]:
        return f"node '{label(node)}' (Slice) cuts another axis than the last one"
    for axis, start in zip(axes, starts, strict=False):
        if axis % rank == rank - 1:
            return int(min(max(start + before[-1] if start < 0 else start, 0), before[-1]))
    return 0
