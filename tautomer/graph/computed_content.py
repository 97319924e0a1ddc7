"""The contents of a node's outputs, computed ahead from known contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.fact import Fact, Shape, elements
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.semantics.table import evaluate, meaning_of

COMPUTED_ELEMENTS = 65536  # a larger content is not computed
# Their work or memory is not bounded by the sizes of their inputs and outputs.
_HEAVY = {"Einsum", "Conv", "AveragePool", "MaxPool"}
_MATHEMATICS = Float64()


def computed(
    call: Call,
    inputs: list[Fact | None],
    shapes: Sequence[Shape | None],
    *,
    most: int = COMPUTED_ELEMENTS,
) -> Sequence[Any]:
    """The contents of the outputs, when those of the inputs are known and none is larger than `most`."""
    if not shapes or any(shape is None or elements(shape) > most for shape in shapes):
        return ()
    if call.domain == "" and call.op_type in ("Shape", "Size"):
        sizes = inputs[0].shape if inputs and inputs[0] is not None else None
        if sizes is None:
            return ()
        if call.op_type == "Size":
            return (np.asarray(elements(sizes), dtype=np.int64),)
        return (np.asarray(sizes[call.get("start", 0) : call.get("end")], dtype=np.int64),)
    if (
        call.op_type == "CastLike"
        and len(inputs) == 2
        and inputs[1] is not None
        and inputs[1].dtype is not None
    ):
        # only the type of the second input is read, so its content need not be known
        call, inputs = replace(call, op_type="Cast", attributes={"to": int(inputs[1].dtype)}), inputs[:1]
    if any(fact is not None and fact.array is None for fact in inputs) or call.op_type in _HEAVY:
        return ()
    if meaning_of(call.domain, call.op_type) is None:
        return ()
    try:
        values = [None if fact is None else lift(_MATHEMATICS, fact.array) for fact in inputs]  # type: ignore[arg-type]
        return evaluate(_MATHEMATICS, call, values)
    except Exception:  # refused or malformed: the content is unknown, the shape may still be right
        return ()
