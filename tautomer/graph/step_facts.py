"""What is known of the steps of an expression: their shapes, and the contents of small integers."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.computed_content import computed
from tautomer.graph.expression import Expression, Literal, Stored
from tautomer.graph.fact import EMPTY, Fact
from tautomer.graph.shape_rules import shape_rule_of
from tautomer.graph.stored_content import stored


def step_facts(expression: Expression, sources: Mapping[str, ir.TensorProtocol]) -> tuple[Fact, ...]:
    """A fact for each step; the empty one where nothing can be told.

    Args:
        expression: what is asked about.
        sources: the stored constants, by name.
    """
    facts: list[Fact] = []
    for step in expression.steps:
        if isinstance(step, Stored):
            facts.append(stored(sources[step.name]) if step.name in sources else EMPTY)
        elif isinstance(step, Literal):
            facts.append(Fact(step.array.shape, array=step.array))
        else:
            facts.append(_applied(step.call, [None if i is None else facts[i] for i in step.operands]))
    return tuple(facts)


def _applied(call: Call, inputs: list[Fact | None]) -> Fact:
    while inputs and inputs[-1] is None:
        inputs.pop()
    rule = shape_rule_of(call.domain, call.op_type)
    if rule is None:
        return EMPTY
    try:
        shapes = rule(call, inputs)
        arrays = computed(call, inputs, shapes)
    except Exception:  # an expression that was read from a file may be anything
        return EMPTY
    array = arrays[0] if len(arrays) else None
    shape = shapes[0] if shapes else None
    return Fact(shape if array is None else array.shape, array=array)
