"""Values that are never infinite, whatever the model is given."""

from __future__ import annotations

import onnx_ir as ir

from tautomer.passes.workspace import Workspace

_BOUNDED = ("Cos", "Sigmoid", "Sin", "Softmax", "Tanh")  # by their definition
_NORMS = ("LayerNormalization", "RMSNormalization")  # bounded by the size of a row, and by their gains
_SIZED = ("Expand", "Reshape", "Squeeze", "Unsqueeze")
_KEEPS = frozenset({*_SIZED, "Concat", "Identity", "Mul", "Neg", "Transpose"})


def is_bounded(work: Workspace, value: ir.Value) -> bool:
    """Whether a value is made of bounded numbers and constants, by moving and multiplying them."""
    named = {
        op.output
        for op in work.recognition.operations
        if op.op in (*_BOUNDED, *_NORMS)
        and all(work.facts.get(x).constant for x in op.inputs[1:] if x is not None)
    }
    waiting = [value]
    while waiting:
        top = waiting.pop()
        made = top.producer()
        if top in named or work.facts.get(top).constant:
            continue
        if made is not None and made.op_type in _BOUNDED:
            continue
        if made is None or made.op_type not in _KEEPS:
            return False
        waiting += [each for each in made.inputs[: 1 if made.op_type in _SIZED else None] if each is not None]
    return True
