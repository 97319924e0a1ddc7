"""Whether a function of a file, which is untrusted, is one that was written here: the same, node by node."""

from __future__ import annotations

import onnx_ir as ir

from tautomer.patterns.rowwise.program import described


def same_function(ours: ir.Function, function: ir.Function) -> bool:
    """Whether two functions have the same nodes in the same order, however their values are named."""
    if len(ours.graph) != len(function.graph) or list(ours.attributes) != list(function.attributes):
        return False
    if [value.name for value in ours.inputs] != [value.name for value in function.inputs]:
        return False
    known: dict[ir.Value | None, ir.Value | None] = {None: None}
    known |= zip(ours.inputs, function.inputs, strict=True)
    for a, b in zip(ours.graph, function.graph, strict=True):
        if (a.domain, a.op_type, described(a)) != (b.domain, b.op_type, described(b)):
            return False
        if len(a.outputs) != len(b.outputs) or [known.get(value) for value in a.inputs] != list(b.inputs):
            return False
        known |= zip(a.outputs, b.outputs, strict=True)
    return [known.get(value) for value in ours.outputs] == list(function.outputs)
