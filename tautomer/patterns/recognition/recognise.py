"""Recognition: propose cones, confirm them by evaluation, and cover the graph with the largest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from tautomer.graph.facts import Facts, bind_symbols, propagate
from tautomer.graph.naming import label
from tautomer.patterns.attention.recognise import find_attention
from tautomer.patterns.compose import find_composites
from tautomer.patterns.native_sparsity import native_sparsity
from tautomer.patterns.recognition.candidates import missed_candidates
from tautomer.patterns.recognition.cone_operators import ConeOperators
from tautomer.patterns.recognition.cones import ConeFinder, Interner
from tautomer.patterns.recognition.confirmer import Confirmer
from tautomer.patterns.recognition.cover import Covering
from tautomer.patterns.recognition.readings import Mode
from tautomer.patterns.recognition.recognised import Recognised
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
        constants: how constants were read.
    """

    model: ir.Model
    facts: Facts
    operations: list[Recognised] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    evaluated: int = 0
    cones: int = 0
    constants: Mode = "exact"
    _other: Facts | None = None

    def elsewhere(self) -> Facts:
        """Shapes and contents under another binding of the sizes."""
        if self._other is None:
            sizes = bind_symbols(self.model)
            self._other = propagate(self.model, {name: size + 2 for name, size in sizes.items()})
        return self._other

    def static(self, value: ir.Value, axes: tuple[int, ...]) -> bool:
        """Whether the extents along these axes are fixed numbers: the same under another binding."""
        here, there = self.facts.get(value).shape, self.elsewhere().get(value).shape
        return here is not None and there is not None and all(here[axis] == there[axis] for axis in axes)


def recognise(model: ir.Model, *, constants: Mode = "exact") -> Recognition:
    """Finds every operation that has a definition, in the main graph and in sub-graphs.

    Args:
        model: the model; it is not changed.
        constants: "exact" reads a constant only as numbers that it is the rounding of; "nominal" also takes
            numbers that somebody typed with few digits (1.4142).
    """
    facts = propagate(model, bind_symbols(model))
    recognition = Recognition(model, facts, constants=constants)
    operators, interner, confirm = ConeOperators.current(), Interner(), Confirmer(constants)
    versions = dict(model.graph.opset_imports)
    for graph in _graphs(model.graph):
        finder = ConeFinder(graph, facts, versions, operators, interner)
        covering = Covering(graph, finder, confirm)
        simple = covering.operations()
        composites = find_composites(graph, finder, simple)
        attention = find_attention(graph, finder, constants, recognition.elsewhere)
        recognition.operations += [*simple, *composites, *attention.found]
        recognition.remarks += [remark for op in simple for remark in _reading_remarks(op)]
        recognition.remarks += attention.remarks
        recognition.remarks += missed_candidates(finder, simple, covering.refusals, constants)
        recognition.remarks += native_sparsity(graph, facts)
        recognition.cones += covering.proposed
    recognition.evaluated = confirm.evaluated
    return recognition


def recognise_more(recognition: Recognition, is_new: Callable[[ir.Node], bool]) -> list[Recognised]:
    """The simple operations of the main graph that were not there when the model was looked at.

    Args:
        recognition: what was found then; its facts know the new values.
        is_new: whether a node was made since.
    """
    graph = recognition.model.graph
    versions = dict(graph.opset_imports)
    finder = ConeFinder(graph, recognition.facts, versions, ConeOperators.current(), Interner())
    covering = Covering(graph, finder, Confirmer(recognition.constants))
    return [op for op in covering.operations() if any(map(is_new, op.nodes))]


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
