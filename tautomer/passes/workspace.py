"""What the passes work on: a model, what is known of it, and how a pass changes it.

Every pass leaves the model valid and the knowledge in step: the operations name values that are in the
graph, and new values have facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.expression import Expression, constant_tensor
from tautomer.graph.facts import Facts, extend
from tautomer.patterns.onnx_body import DOMAIN, DOMAIN_VERSION
from tautomer.patterns.recognise import Recognition
from tautomer.patterns.recognised import Recognised


class Evidence(Protocol):
    """Decides whether a rewrite may be done."""

    def refuses(self, key: Any, old: ir.Value, new: ir.Value, leaves: Mapping[ir.Value, ir.Value]) -> str:
        """The reason why a new value may not take the place of an old one, or "".

        Args:
            key: equal for rewrites of equal structure.
            old: the value as the model computes it.
            new: the value that is to replace it.
            leaves: what both are computed from -> the value of the original model that has its shape.
        """

    def moved(self, shifts: Mapping[ir.Value, Mapping[int, Sequence[tuple[int, int]]]]) -> Moved | None:
        """Which shift an output of the original model sees, when each value is shifted.

        Args:
            shifts: value -> axis -> digit intervals of that axis along which the shift is constant.
        """


@dataclass(frozen=True)
class Moved:
    """A shift that was seen.

    Attributes:
        value: the value that was shifted; None when the model could not be evaluated.
        reason: a sentence.
    """

    value: ir.Value | None
    reason: str


@dataclass
class Workspace:
    """A model in the hands of the passes.

    Attributes:
        model: changed in place.
        recognition: its operations and facts.
        evidence: asked before a rewrite.
        names: where new names come from.
        stored: names of the constants of the model before the first pass.
        expressions: what each constant that was folded stands for.
    """

    model: ir.Model
    recognition: Recognition
    evidence: Evidence
    names: Names
    stored: frozenset[str]
    expressions: dict[ir.Value, Expression] = field(default_factory=dict)
    _original: frozenset[int] = frozenset()
    _held: list[ir.Node] = field(default_factory=list)
    _replaced: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _constants: dict[int, dict[Any, ir.Value]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ir.Model, recognition: Recognition, evidence: Evidence) -> Workspace:
        """The workspace of a model that no pass has touched."""
        nodes = [node for graph in model.graphs() for node in graph]  # held, so that no new node gets the identity of one that was removed
        stored = [name for graph in model.graphs() for name in graph.initializers]
        stored += [
            str(node.outputs[0].name)
            for node in nodes
            if node.outputs and constant_tensor(node.outputs[0]) is not None
        ]
        original = frozenset(id(node) for node in nodes)
        return cls(
            model, recognition, evidence, Names.of(model), frozenset(stored), _original=original, _held=nodes
        )

    @property
    def facts(self) -> Facts:
        """Shapes, types and contents."""
        return self.recognition.facts

    @property
    def version(self) -> int:
        """The opset version of ONNX's own domain."""
        return self.model.opset_imports.get("", self.model.opset_imports.get("ai.onnx", 0))

    def is_new(self, node: ir.Node) -> bool:
        """Whether a pass made the node."""
        return id(node) not in self._original

    def builder(self, graph: ir.Graph) -> Builder:
        """A builder of nodes in one of the model's graphs."""
        return Builder(self.version, self.names, graph, self._constants.setdefault(id(graph), {}))

    def place(self, builder: Builder, before: ir.Node) -> None:
        """Puts the builder's nodes and constants into the graph, in front of a node."""
        builder.commit()
        graph = before.graph
        assert graph is not None
        graph.insert_before(before, builder.nodes)
        extend(self.facts, self.model, builder.nodes)

    def replace(self, old: ir.Value, new: ir.Value, builder: Builder, gone: Sequence[ir.Node]) -> None:
        """Puts the builder's nodes in the place of an old value, which gives the new one its name.

        Args:
            old: a node's output.
            new: one of the builder's.
            builder: holds the new nodes.
            gone: nodes that may be dead after.
        """
        producer = old.producer()
        assert producer is not None
        self.place(builder, producer)
        new.type, new.shape = old.type, old.shape
        self.facts.set(new, self.facts.get(old))
        name, old.name = old.name, self.names.fresh("tautomer/replaced")
        new.name = name
        new.metadata_props.update(old.metadata_props)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self._replaced[old] = new
        remove_dead(reversed(gone))

    def now(self, value: ir.Value) -> ir.Value:
        """The value as it is after earlier rewrites."""
        while value in self._replaced:
            value = self._replaced[value]
        return value

    def declare(self, function: ir.Function) -> None:
        """Puts a function of the domain `tautomer` into the file."""
        self.model.opset_imports.setdefault(DOMAIN, DOMAIN_VERSION)
        if function.identifier() not in self.model.functions:
            self.model.functions[function.identifier()] = function

    def operations(self, *names: str) -> Iterator[Recognised]:
        """The operations of these names in the main graph, as they are now."""
        for op in list(self.recognition.operations):
            if op.op in names and op.graph is self.model.graph:
                yield op
