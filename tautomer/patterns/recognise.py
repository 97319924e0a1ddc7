"""Recognition: propose cones, confirm them by evaluation, and cover the graph with the largest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from tautomer.errors import InternalError
from tautomer.graph.call import call_of
from tautomer.graph.facts import Facts, bind_symbols, propagate
from tautomer.graph.naming import label
from tautomer.patterns.attention import find_attention
from tautomer.patterns.candidates import missed_candidates
from tautomer.patterns.compose import find_composites
from tautomer.patterns.computation_type import computation_type
from tautomer.patterns.cone_operators import ConeOperators, is_movement
from tautomer.patterns.cones import Cone, ConeFinder, Interner
from tautomer.patterns.confirm_pointwise import confirm_pointwise
from tautomer.patterns.confirm_rows import confirm_rows
from tautomer.patterns.evaluation import compile_cone, constant
from tautomer.patterns.match import Match, Refusal
from tautomer.patterns.meaning import named
from tautomer.patterns.readings import Mode
from tautomer.patterns.recognised import Recognised
from tautomer.remarks import Remark


@dataclass
class Recognition:
    """What was found in a model.

    Attributes:
        model: the model that was looked at.
        facts: shapes and contents under the binding that was used.
        operations: simple operations, then composites that stand on them, by position in their graph.
        remarks: near misses, and constants that were read as another number than stored.
        evaluated: how many distinct sub-graphs were evaluated.
        cones: how many were proposed.
    """

    model: ir.Model
    facts: Facts
    operations: list[Recognised] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    evaluated: int = 0
    cones: int = 0
    _other: Facts | None = None

    def static(self, value: ir.Value, axes: tuple[int, ...]) -> bool:
        """Whether the extents along these axes are fixed numbers: the same under another binding."""
        if self._other is None:
            sizes = bind_symbols(self.model)
            self._other = propagate(self.model, {name: size + 2 for name, size in sizes.items()})
        here, there = self.facts.get(value).shape, self._other.get(value).shape
        return here is not None and there is not None and all(here[axis] == there[axis] for axis in axes)


class _Confirmer:
    """Confirms each distinct structure once."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self.results: dict[int, Match | Refusal] = {}

    def __call__(self, cone: Cone, finder: ConeFinder) -> Match | Refusal:
        known = self.results.get(cone.key)
        if known is None:
            known = self.results[cone.key] = self._confirm(cone, finder)
        return known

    def _confirm(self, cone: Cone, finder: ConeFinder) -> Match | Refusal:
        for leaf in cone.leaves:
            fact = finder.fact(leaf)
            if fact.shape is None or fact.dtype is None or not fact.dtype.is_floating_point():
                return Refusal(f"'{leaf.name}' enters it: not a float tensor of known shape")
        try:
            program = compile_cone(cone, finder, self._mode)
        except ValueError as error:
            return Refusal(str(error))
        found = confirm_rows(program) if program.reduces else confirm_pointwise(program)
        if isinstance(found, Match):
            stash = computation_type(cone, found, finder)
            if isinstance(stash, str):
                return Refusal(stash, nearest=found.definition.op)
        return found


def recognise(model: ir.Model, *, constants: Mode = "exact") -> Recognition:
    """Finds every operation that has a definition, in the main graph and in sub-graphs.

    Args:
        model: the model; it is not changed.
        constants: "exact" reads a constant only as numbers that it is the rounding of; "nominal" also takes
            numbers that somebody typed with few digits (1.4142).
    """
    facts = propagate(model, bind_symbols(model))
    recognition = Recognition(model, facts)
    operators, interner, confirm = ConeOperators.current(), Interner(), _Confirmer(constants)
    versions = dict(model.graph.opset_imports)
    for graph in _graphs(model.graph):
        finder = ConeFinder(graph, facts, versions, operators, interner)
        matches, refusals = _confirm_all(finder, confirm, recognition)
        simple = _cover(graph, finder, matches)
        composites = find_composites(graph, finder, simple)
        attention = find_attention(graph, finder, simple, constants)
        recognition.operations += [*simple, *composites, *attention.found]
        recognition.remarks += [remark for op in simple for remark in _reading_remarks(op)]
        recognition.remarks += attention.remarks
        recognition.remarks += missed_candidates(finder, simple, refusals, constants)
    recognition.evaluated = len(confirm.results)
    return recognition


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    yield graph
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _graphs(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for inner in attribute.as_graphs():
                    yield from _graphs(inner)


_Matches = dict[ir.Value, list[tuple[Cone, Match]]]
_Refusals = dict[ir.Value, list[tuple[Cone, Refusal]]]


def _confirm_all(finder: ConeFinder, confirm: _Confirmer, recognition: Recognition) -> tuple[_Matches, _Refusals]:
    matches: _Matches = {}
    refusals: _Refusals = {}
    for cone in finder.cones():
        recognition.cones += 1
        found = confirm(cone, finder)
        if isinstance(found, Match):
            matches.setdefault(cone.output, []).append((cone, found))
        else:
            refusals.setdefault(cone.output, []).append((cone, found))
    return matches, refusals


def _cover(graph: ir.Graph, finder: ConeFinder, matches: _Matches) -> list[Recognised]:
    """Walks back from what is needed; every needed value takes the largest operation that computes it."""
    needed: dict[ir.Value, None] = dict.fromkeys(graph.outputs)
    found: list[Recognised] = []
    inside = set(map(id, finder.nodes))
    for node in reversed(finder.nodes):
        outputs = [value for value in node.outputs if value in needed or _read_elsewhere(value, inside)]
        if not outputs:
            continue
        best = None
        if len(outputs) == 1 and not _moves_what_is_needed(node, needed, matches):
            best = _best(finder, matches.get(outputs[0], []))
            if best is not None and best.special and _has_exact_inside(best, matches):
                best = None
        best = best or _by_name(graph, node, finder)
        if best is None:
            needed.update(dict.fromkeys(value for value in node.inputs if value is not None))
            continue
        found.append(best)
        needed.update(dict.fromkeys(value for value in best.inputs if value is not None))
    return found[::-1]


def _has_exact_inside(op: Recognised, matches: _Matches) -> bool:
    """Whether a part of it is the same operation on NaN and infinities, too; what is around it is a guard."""
    return any(
        match.definition.op == op.op and not match.special
        for node in op.nodes[:-1]
        for _, match in matches.get(node.outputs[0], [])
    )


def _moves_what_is_needed(node: ir.Node, needed: dict[ir.Value, None], matches: _Matches) -> bool:
    """A node that only rearranges a result which somebody reads as it is: the operation ends before it."""
    if not is_movement(node) or node.inputs[0] not in matches:
        return False
    return len(node.inputs[0].uses()) > 1 or node.inputs[0].is_graph_output() or node.inputs[0] in needed


def _by_name(graph: ir.Graph, node: ir.Node, finder: ConeFinder) -> Recognised | None:
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


def _read_elsewhere(value: ir.Value, inside: set[int]) -> bool:
    return any(id(user) not in inside for user, _ in value.uses())


def _best(finder: ConeFinder, candidates: list[tuple[Cone, Match]]) -> Recognised | None:
    """The largest cone; one whose rows are over trailing axes before one that needs a transpose."""
    if not candidates:
        return None
    cone, match = min(
        candidates,
        key=lambda entry: (bool(entry[1].special), _needs_transpose(finder, *entry), -len(entry[0].nodes)),
    )
    return _recognised(finder, cone, match)


def _trailing(finder: ConeFinder, cone: Cone, match: Match) -> int | None:
    """How many trailing axes make the row, counting axes of size 1 beside them; None when it is not trailing."""
    shape = finder.fact(cone.source).shape or ()
    first = min(match.axes)
    if all(axis in match.axes or shape[axis] == 1 for axis in range(first, len(shape))):
        return len(shape) - first
    return None


def _needs_transpose(finder: ConeFinder, cone: Cone, match: Match) -> bool:
    return match.definition.rows == "trailing" and _trailing(finder, cone, match) is None


def _recognised(finder: ConeFinder, cone: Cone, match: Match) -> Recognised | None:
    definition = match.definition
    rank = len(finder.fact(cone.source).shape or ())
    attributes: dict[str, Any] = dict(definition.attributes)
    if definition.rows == "trailing":
        count = _trailing(finder, cone, match)
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
            inputs.append(_scalar_input(finder, cone, operand.factor))
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
    )


def _scalar_input(finder: ConeFinder, cone: Cone, number: float) -> ir.Value:
    """The constant of a cone that was read as this number, the one nearest to the result."""
    for node in reversed(cone.nodes):
        for value in node.inputs:
            if value is None or (array := finder.fact(value).array) is None or array.size != 1:
                continue
            _, reading = constant(finder.fact(value), "exact")
            if reading is not None and abs(reading.value - number) <= 1e-6 * abs(number):
                return value
    raise InternalError(f"no constant is {number}", where=f"'{cone.output.name}'")


def _reading_remarks(op: Recognised) -> Iterator[Remark]:
    for reading in op.readings:
        if reading.nominal:
            yield Remark(
                "analysis",
                "recognise",
                op.op,
                label(op.node),
                f"the constant {reading.stored!r} was read as {reading.name}",
                "this is more than rounding; leave out --constants nominal to refuse it",
            )
