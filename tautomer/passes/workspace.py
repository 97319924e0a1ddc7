"""What the passes work on: a model, what is known of it, and how a pass changes it.

Every pass leaves the model valid and the knowledge in step: the operations name values that are in the
graph, and new values have facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.expression import Expression, constant_tensor
from tautomer.graph.facts import Facts, extend
from tautomer.graph.stored_content import largest_element
from tautomer.graph.valueless import ValuelessTensor
from tautomer.passes.streams.known import Streams
from tautomer.patterns.onnx_body import DOMAIN, DOMAIN_VERSION
from tautomer.patterns.recognition.recognise import Recognition, recognise_more
from tautomer.patterns.recognition.recognised import Recognised


class Evidence(Protocol):
    """Decides whether a rewrite may be done."""

    def refuses(
        self,
        key: Any,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        *,
        linear: bool = False,
    ) -> str:
        """The reason why a new value may not take the place of an old one, or "".

        Args:
            key: equal for rewrites of equal structure.
            old: the value as the model computes it.
            new: the value that is to replace it.
            leaves: what both are computed from -> the value of the original model that has its shape.
            linear: whether they are linear maps of the leaves: then inputs of every class tell no more than
                random ones do, and those near the end of the range only which sum overflows first.
        """

    def blind(self) -> str:
        """Why the whole model cannot be compared with what becomes of it, or ""."""

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
        sources: the constants of the model before the first pass, held: their last reader may go.
        expressions: what each constant that was folded stands for.
        centred: the inputs of norms that rely on a mean of zero, and along which axes.
        streams: what was centred for them.
    """

    model: ir.Model
    recognition: Recognition
    evidence: Evidence
    names: Names
    sources: dict[str, ir.TensorProtocol]
    expressions: dict[ir.Value, Expression] = field(default_factory=dict)
    centred: dict[ir.Value, tuple[int, ...]] = field(default_factory=dict)
    streams: Streams = field(default_factory=Streams)
    _blind: str | None = None
    _declared: list[ir.Function] = field(default_factory=list)
    _largest: dict[str, float] = field(default_factory=dict)
    _original: frozenset[int] = frozenset()
    _held: list[ir.Node] = field(default_factory=list)
    _replaced: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _origins: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _constants: dict[int, dict[Any, ir.Value]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ir.Model, recognition: Recognition, evidence: Evidence) -> Workspace:
        """The workspace of a model that no pass has touched."""
        nodes = [
            node for graph in model.graphs() for node in graph
        ]  # held, so that no new node gets the identity of one that was removed
        sources: dict[str, ir.TensorProtocol] = {}
        for graph in model.graphs():
            for value in [*graph.initializers.values(), *(x for node in graph for x in node.outputs[:1])]:
                tensor = constant_tensor(value)
                if tensor is not None:
                    sources.setdefault(str(value.name), tensor)
        original = frozenset(id(node) for node in nodes)
        return cls(model, recognition, evidence, Names.of(model), sources, _original=original, _held=nodes)

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

    def is_valueless(self, source: str) -> bool:
        """Whether a constant of the model comes with every call, so that nothing but its type is known."""
        return isinstance(self.sources[source], ValuelessTensor)

    def largest(self, source: str) -> float:
        """max |x| of a stored constant; nan or inf where it has such elements."""
        if source not in self._largest:
            self._largest[source] = largest_element(self.sources[source])
        return self._largest[source]

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

    def place_after(self, builder: Builder, after: ir.Node) -> None:
        """Puts the builder's nodes and constants into the graph, behind a node."""
        builder.commit()
        graph = after.graph
        assert graph is not None
        graph.insert_after(after, builder.nodes)
        extend(self.facts, self.model, builder.nodes)

    def follow(self, old: ir.Value, new: ir.Value, builder: Builder) -> None:
        """Puts the builder's nodes behind the node of a value that they read; its other readers read theirs.

        Args:
            old: a node's output.
            new: one of the builder's, computed from it.
            builder: holds the new nodes.
        """
        node = old.producer()
        assert node is not None
        own = {id(each) for each in builder.nodes}
        readers = [(reader, index) for reader, index in old.uses() if id(reader) not in own]
        self.place_after(builder, node)
        new.type, new.shape = old.type, old.shape
        self.facts.set(new, self.facts.get(old))
        self._origins[new] = self.origin(old)
        for reader, index in readers:
            reader.replace_input_with(index, new)
        if old.is_graph_output():
            assert isinstance(node.graph, ir.Graph)
            name, old.name = old.name, self.names.fresh("tautomer/replaced")
            new.name = name
            for position, output in enumerate(node.graph.outputs):
                if output is old:
                    node.graph.outputs[position] = new

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
        self.supersede(old, new)
        remove_dead(reversed(gone))

    def supersede(self, old: ir.Value, new: ir.Value) -> None:
        """Gives a value of the graph the name, the facts and the readers of an old one."""
        new.type, new.shape = old.type, old.shape
        self.facts.set(new, self.facts.get(old))
        name, old.name = old.name, self.names.fresh("tautomer/replaced")
        new.name = name
        new.metadata_props.update(old.metadata_props)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self._replaced[old] = new
        self._origins[new] = self.origin(old)

    def drop(self, old: ir.Value, new: ir.Value) -> None:
        """Removes a node that does nothing any more: what read it reads another value of the graph.

        Args:
            old: the node's only output.
            new: what takes its place; it gets the name where that is one of the model's outputs.
        """
        node = old.producer()
        assert node is not None and node.graph is not None
        if old.is_graph_output():
            name, old.name = old.name, self.names.fresh("tautomer/replaced")
            new.name = name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self._replaced[old] = new
        remove_dead([node])
        self.reread(old, new)

    def reread(self, old: ir.Value, new: ir.Value) -> None:
        """Says that operations that read a value read another one now."""
        self.recognition.operations = [
            op
            if old not in op.inputs
            else replace(op, inputs=tuple(new if x is old else x for x in op.inputs))
            for op in self.recognition.operations
        ]
        if old in self.centred:
            self.centred[new] = self.centred.pop(old)

    def forget(self, op: Recognised) -> None:
        """Says that an operation is no more."""
        kept = [each for each in self.recognition.operations if each.output is not op.output]
        self.recognition.operations = kept

    def blind(self) -> str:
        """Why a rewrite that only the whole model can vouch for may not be done, or ""."""
        if self._blind is None:
            self._blind = self.evidence.blind()
        return self._blind

    def refuses_linear(
        self, key: object, old: ir.Value, new: ir.Value, read: Iterable[ir.Value], *, small: bool
    ) -> str:
        """Why a linear map may not take another one's place, or "".

        Args:
            key: equal for rewrites of equal structure, whose evidence is the same.
            old: the value as the model computes it.
            new: the value that is to replace it.
            read: what both are linear maps of.
            small: whether it is checked on its own; else only the whole model can vouch for it.
        """
        if not small:
            return self.blind()
        return self.evidence.refuses(key, old, new, self.leaves(read), linear=True)

    def now(self, value: ir.Value) -> ir.Value:
        """The value as it is after earlier rewrites."""
        while value in self._replaced:
            value = self._replaced[value]
        return value

    def origin(self, value: ir.Value) -> ir.Value:
        """The value of the original model that this one stands for, which has its shape; itself if none."""
        return self._origins.get(value, value)

    def leaves(self, values: Iterable[ir.Value]) -> dict[ir.Value, ir.Value]:
        """What values vary with, as far back as the original model has a value of the same shape.

        Returns:
            The value as it is now -> the one of the original model; stored constants are left out.
        """
        found: dict[ir.Value, ir.Value] = {}
        waiting = list(values)
        while waiting:
            value = waiting.pop(0)
            producer, origin = value.producer(), self.origin(value)
            made = origin.producer()
            if value.const_value is not None or value in found:
                continue
            if made is None or not self.is_new(made):
                found[value] = origin
            elif producer is not None:
                waiting += [operand for operand in producer.inputs if operand is not None]
        return found

    def catch_up(self) -> None:
        """Drops the operations that are no more, and names the others' values as they are now."""
        self.recognition.operations = [
            replace(
                op,
                inputs=tuple(None if value is None else self.now(value) for value in op.inputs),
                output=self.now(op.output),
            )
            for op in self.recognition.operations
            if op.node.graph is not None
        ]

    def recognise_again(self) -> None:
        """Adds the operations that nodes which passes made are part of."""
        self.recognition.operations += recognise_more(self.recognition, self.is_new)

    def declare(self, function: ir.Function) -> bool:
        """Puts a function of the domain `tautomer` into the file; False where its name is taken there.

        Variants of an operation have one name and differ in an attribute, and a file has one of them.
        """
        self.model.opset_imports.setdefault(DOMAIN, DOMAIN_VERSION)
        there = self.model.functions.get(function.identifier())
        if there is not None:
            return [node.op_type for node in there] == [node.op_type for node in function]
        self.model.functions[function.identifier()] = function
        self._declared.append(function)
        return True

    def settle(self) -> None:
        """Takes back the functions that were declared for nodes that a later pass replaced."""
        ours = [node for graph in self.model.graphs() for node in graph if node.domain == DOMAIN]
        used = {node.op_identifier() for node in ours}
        for function in self._declared:
            if function.identifier() not in used:
                del self.model.functions[function.identifier()]

    def operations(self, *names: str) -> Iterator[Recognised]:
        """The operations of these names in the main graph, as they are now."""
        for op in list(self.recognition.operations):
            if op.op in names and op.graph is self.model.graph:
                yield op
