"""The contents of large constants that a graph makes from small ones, such as a mask of all positions.

Facts keep small contents of every value; those of a few large values are computed when somebody asks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.call import call_of
from tautomer.graph.computed_content import computed
from tautomer.graph.fact import Fact, elements
from tautomer.graph.facts import Facts
from tautomer.graph.valueless import ValuelessTensor

LARGEST = 1 << 24
"""Elements of a content that is still looked at: the positions of 4096 tokens."""
_MOST_NODES = 200


def whole_content(value: ir.Value, facts: Facts, version: int) -> NDArray[Any] | None:
    """What a value holds, of up to `LARGEST` elements; None where that is not known before the graph runs.

    Args:
        value: any value of the graph.
        facts: of its values.
        version: of ONNX's operators in it.
    """
    known: dict[ir.Value, NDArray[Any] | None] = {}
    stack = [value]
    while stack and len(known) < _MOST_NODES:
        top = stack[-1]
        if top not in known:
            found = _known(top, facts)
            node = top.producer()
            if found is not None or node is None or not facts.get(top).constant:
                known[top] = found
            else:
                waiting = [x for x in node.inputs if x is not None and x not in known]
                stack += waiting
                if waiting:
                    continue
                known[top] = _made(node, known, facts, version)
        stack.pop()
    return known.get(value)


def _known(value: ir.Value, facts: Facts) -> NDArray[Any] | None:
    fact = facts.get(value)
    if fact.array is not None:
        return fact.array
    stored = value.const_value
    if stored is None or isinstance(stored, ValuelessTensor) or stored.size > LARGEST:
        return None
    return stored.numpy()


def _made(
    node: ir.Node, known: dict[ir.Value, NDArray[Any] | None], facts: Facts, version: int
) -> NDArray[Any] | None:
    inputs: list[Fact | None] = []
    for x in node.inputs:
        if x is None:
            inputs.append(None)
        elif known[x] is None:
            return None
        else:
            inputs.append(replace(facts.get(x), array=known[x]))
    shape = facts.get(node.outputs[0]).shape
    if shape is None or elements(shape) > LARGEST or len(node.outputs) != 1:
        return None
    found = computed(call_of(node, version), inputs, [shape], most=LARGEST)
    return found[0] if found else None
