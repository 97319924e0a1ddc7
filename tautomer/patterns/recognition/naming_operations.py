"""From a confirmed cone, or a node's name, to an operation with ONNX's names for its attributes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.patterns.meaning import named
from tautomer.patterns.recognition.computation_type import computation_type
from tautomer.patterns.recognition.cones import Cone, ConeFinder
from tautomer.patterns.recognition.evaluation import constant
from tautomer.patterns.recognition.match import Match
from tautomer.patterns.recognition.recognised import Recognised


def trailing_axes(finder: ConeFinder, cone: Cone, match: Match) -> int | None:
    """How many trailing axes make the row, with axes of size 1 beside them; None when it is none."""
    shape = finder.fact(cone.source).shape or ()
    first = min(match.axes)
    if all(axis in match.axes or shape[axis] == 1 for axis in range(first, len(shape))):
        return len(shape) - first
    return None


def recognised(finder: ConeFinder, cone: Cone, match: Match) -> Recognised | None:
    """The operation that a cone computes; None when its rows have no ONNX axis, or a number is not in it."""
    definition = match.definition
    rank = len(finder.fact(cone.source).shape or ())
    attributes: dict[str, Any] = dict(definition.attributes)
    if definition.rows == "trailing":
        count = trailing_axes(finder, cone, match)
        attributes["axis"] = -(count or len(match.axes))
        if count is None:
            others = [axis for axis in range(rank) if axis not in match.axes]
            attributes["perm"] = others + list(match.axes)
    elif definition.rows == "axis":
        if len(match.axes) != 1:
            return None
        attributes["axis"] = match.axes[0] - rank
    elif definition.rows == "folded":
        attributes["axes"] = [axis - rank for axis in match.axes]
        attributes["keepdims"] = int(len(finder.fact(cone.output).shape or ()) == rank)
    elif definition.rows == "channel groups":
        attributes["num_groups"] = match.groups
    attributes.update(match.parameters)
    stash = computation_type(cone, match, finder)
    assert isinstance(stash, ir.DataType)
    if definition.rows == "trailing" and stash != ir.DataType.FLOAT:
        attributes["stash_type"] = int(stash)
    inputs: list[ir.Value | None] = [cone.source]
    factors: dict[str, float] = {}
    for name in definition.operands:
        operand = match.operands.get(name)
        if operand is None:
            inputs.append(None)
        elif operand.is_number:
            number, sign = _scalar_input(finder, cone, operand.factor)
            if number is None:
                return None
            inputs.append(number)
            if sign < 0.0:
                factors[name] = sign
        else:
            inputs.append(cone.leaves[operand.leaf])
            if operand.factor != 1.0:
                factors[name] = operand.factor
    while inputs[-1] is None:
        inputs.pop()
    graph = cone.nodes[-1].graph
    assert isinstance(graph, ir.Graph)
    return Recognised(
        definition,
        tuple(inputs),
        cone.output,
        attributes,
        cone.nodes,
        graph,
        match.axes,
        factors,
        match.readings,
        stash,
        match.special,
        cone.key,
        _numbers(finder, cone) if definition.fit is not None else {},
    )


def _numbers(finder: ConeFinder, cone: Cone) -> dict[float, ir.Value]:
    """The constants of one number that a cone reads, by what they were read as."""
    rank, found = len(finder.fact(cone.source).shape or ()), dict[float, ir.Value]()
    for value in (value for node in cone.nodes for value in node.inputs if value is not None):
        fact = finder.fact(value)
        if fact.array is not None and fact.array.size == 1 and len(fact.shape or ()) <= rank:
            _, reading = constant(fact, "exact")
            if reading is not None and fact.dtype == finder.fact(cone.source).dtype:
                found.setdefault(reading.value, value)
    return found


def _scalar_input(finder: ConeFinder, cone: Cone, number: float) -> tuple[ir.Value | None, float]:
    """The constant of a cone that was read as this number, or as its negative, and its sign.

    The one nearest to the result; of max(x + -0.5, 0) the shift is -1 times a constant. None where the cone
    has it in another form.
    """
    for sign in (1.0, -1.0):
        for node in reversed(cone.nodes):
            for value in node.inputs:
                if value is None or (array := finder.fact(value).array) is None or array.size != 1:
                    continue
                _, reading = constant(finder.fact(value), "exact")
                if reading is not None and abs(sign * reading.value - number) <= 1e-6 * abs(number):
                    return value, sign
    return None, 1.0


def by_name(graph: ir.Graph, node: ir.Node, finder: ConeFinder) -> Recognised | None:
    """A node that is an operation by name, where no cone could be evaluated: its shape is unknown or huge."""
    call = call_of(node, finder.version(node.domain))
    found = named(call)
    if found is None or node.inputs[0] is None:
        return None
    definition, given = found
    operands = tuple(node.inputs[1:]) if len(node.inputs) - 1 <= len(definition.operands) else ()
    attributes = {**definition.attributes, **definition.parameters}
    attributes |= {name: value for name, value in given.items() if name in ("axis", *attributes)}
    if definition.rows in ("trailing", "axis"):
        attributes.setdefault("axis", -1 if definition.rows == "trailing" or call.version >= 13 else 1)
    return Recognised(definition, (node.inputs[0], *operands), node.outputs[0], attributes, (node,), graph)
