"""Proposing: which values could be f(one other value)?

A cone is the sub-graph between a source u and an output v: every node on a path from u to v. It is proposed
when u dominates v in the graph of full-sized float operands, so that everything else that enters the cone is
a constant or broadcasts into it (a gain, a bias). The walk is loose on purpose: evaluation decides.

Equal structures get equal keys (hash-consing): operators, attributes, constants and shapes, but neither
names nor the contents of gains and biases. 48 equal layers are evaluated once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.call import Call, call_of
from tautomer.graph.facts import Fact, Facts
from tautomer.graph.whole_content import whole_content
from tautomer.patterns.recognition.cone_operators import BY_PLACE, ConeOperators

MAX_NODES = 64  # the largest spelling seen in exports has 24
MAX_CHAIN = 24
MAX_SIDE_INPUTS = 3
_ROOT = -1


@dataclass(frozen=True)
class Cone:
    """A sub-graph that computes `output` from `source`, constants and `leaves`.

    Attributes:
        source: the value that varies.
        output: the value that is computed.
        nodes: the nodes between them, in topological order.
        leaves: tensors that enter on the side (gains, biases, masks), in order of first use.
        key: equal for equal structures.
    """

    source: ir.Value
    output: ir.Value
    nodes: tuple[ir.Node, ...]
    leaves: tuple[ir.Value, ...]
    key: int


class Interner:
    """Gives equal structures equal numbers; one for a whole recognition, so that graphs share."""

    def __init__(self) -> None:
        self._ids: dict[Any, int] = {}

    def __call__(self, structure: Any) -> int:
        return self._ids.setdefault(structure, len(self._ids))


@dataclass(frozen=True)
class _Reached:
    """What is known of a value that depends on the source."""

    key: int
    nonlinear: bool


class ConeFinder:
    """Proposes the cones of one graph (not of its sub-graphs).

    Args:
        graph: the graph; its nodes are in topological order.
        facts: shapes and contents under one binding.
        versions: opset version by domain.
        operators: which nodes may stand inside a cone.
        interner: shared by all graphs of a model.
    """

    def __init__(
        self,
        graph: ir.Graph,
        facts: Facts,
        versions: dict[str, int],
        operators: ConeOperators,
        interner: Interner,
    ) -> None:
        self.nodes = list(graph)
        self.operators = operators
        self._facts = facts
        self._versions = versions
        self._intern = interner
        self._graph_outputs = {id(value) for value in graph.outputs}
        self._position: dict[ir.Value, int] = {}
        self._calls: dict[ir.Node, Call] = {}
        self._call_keys: dict[ir.Node, int] = {}
        for index, node in enumerate(self.nodes):
            if operators.allows(node):
                call = call_of(node, self.version(node.domain))
                self._calls[node] = call
                self._call_keys[node] = interner(
                    (call.op_type, call.domain, call.version, _freeze(call.attributes))
                )
            for value in node.outputs:
                self._position[value] = index

    def version(self, domain: str) -> int:
        """The opset version of a domain; 0 when the model does not import it."""
        return self._versions.get("" if domain == "ai.onnx" else domain, self._versions.get(domain, 0))

    def call(self, node: ir.Node) -> Call:
        """The call of a cone operator, read once."""
        return self._calls[node]

    def fact(self, value: ir.Value) -> Fact:
        """Shape, type and known content."""
        return self._facts.get(value)

    def content(self, value: ir.Value) -> NDArray[Any] | None:
        """What a value holds, also where that is too much for a fact; None where it is not known."""
        return whole_content(value, self._facts, self.version(""))

    def cone(self, source: ir.Value, output: ir.Value) -> Cone | None:
        """The cone between two given values, when every node between them may stand inside one."""
        if output.producer() not in self._calls:
            return None
        return next(self._cones_from(source, [output]), None)

    def owns(self, node: ir.Node | None) -> bool:
        """True when the node may stand inside a cone of this graph."""
        return node in self._calls

    def _passes(self, node: ir.Node | None) -> bool:
        """True when proposals go through the node, and not only cones between given values."""
        return node in self._calls and node is not None and node.op_type not in BY_PLACE

    def cones(self) -> Iterator[Cone]:
        """All proposals, by source, in topological order of their outputs."""
        for source, outputs in self._pairs().items():
            yield from self._cones_from(source, outputs)

    def _pairs(self) -> dict[ir.Value, list[ir.Value]]:
        """Outputs by source: each value with the chain of its dominators."""
        tree = self._dominators()
        pairs: dict[ir.Value, list[ir.Value]] = {}
        for node in self.nodes:
            if not self._passes(node) or node.op_type == "Transpose":
                continue
            output = node.outputs[0]
            sources: list[ir.Value] = []
            step = tree.get(output, _ROOT)
            while step is not _ROOT and len(sources) < MAX_CHAIN:
                sources.append(step)
                step = tree.get(step, _ROOT)
            if step is _ROOT and self._is_end(output):
                sources += [value for value in self._region_inputs(output) if value not in sources]
            for source in sources:
                pairs.setdefault(source, []).append(output)
        order = {value: self._position.get(value, -1) for value in pairs}
        return {source: pairs[source] for source in sorted(pairs, key=lambda value: order[value])}

    def _dominators(self) -> dict[ir.Value, Any]:
        graph = nx.DiGraph()
        for node in self.nodes:
            if not self._passes(node):
                continue
            output = node.outputs[0]
            sources = self._full_operands(node)
            for source in sources:
                if not self._passes(source.producer()):
                    graph.add_edge(_ROOT, source)
                graph.add_edge(source, output)
            if not sources:
                graph.add_edge(_ROOT, output)
        if _ROOT not in graph:
            return {}
        tree: dict[ir.Value, Any] = nx.immediate_dominators(graph, _ROOT)
        return tree

    def _full_operands(self, node: ir.Node) -> list[ir.Value]:
        """The operands that carry the row: they vary, and are not broadcast into another operand."""
        operands: list[ir.Value] = []
        for value in node.inputs:
            if value is not None and value not in operands and self._varies(value):
                operands.append(value)
        if len(operands) < 2:
            return operands
        if node.op_type in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"):
            return operands[:1]
        sizes = [_size(self.fact(value)) for value in operands]
        return [value for value, size in zip(operands, sizes, strict=True) if size == max(sizes)]

    def _varies(self, value: ir.Value) -> bool:
        fact = self.fact(value)
        if fact.constant or fact.array is not None:
            return False
        if fact.dtype == ir.DataType.BOOL:  # a comparison inside the region, as in where(x > 0, x, 0)
            return value.producer() in self._calls
        return fact.dtype is None or fact.dtype.is_floating_point()

    def _is_end(self, value: ir.Value) -> bool:
        return id(value) in self._graph_outputs or any(user not in self._calls for user, _ in value.uses())

    def _region_inputs(self, output: ir.Value) -> list[ir.Value]:
        """The few values a whole region starts from: for operations whose gain is as large as their input."""
        seen: dict[ir.Value, None] = {output: None}
        inputs: dict[ir.Value, None] = {}
        stack = [output]
        while stack:
            producer = stack.pop().producer()
            if producer is None:
                continue
            for value in producer.inputs:
                if value is None or value in seen or not self._varies(value):
                    continue
                seen[value] = None
                if self._passes(value.producer()):
                    stack.append(value)
                else:
                    inputs[value] = None
            if len(seen) > MAX_NODES or len(inputs) > MAX_SIDE_INPUTS:
                return []
        size = _size(self.fact(output))
        return [value for value in inputs if _size(self.fact(value)) == size]

    def _cones_from(self, source: ir.Value, outputs: list[ir.Value]) -> Iterator[Cone]:
        fact = self.fact(source)
        if fact.shape is None or fact.dtype is None:
            return
        last = max(self._position[value] for value in outputs)
        reached: dict[ir.Value, _Reached] = {
            source: _Reached(self._intern(("source", fact.shape, fact.dtype)), False)
        }
        leaves: dict[ir.Value, int] = {}
        for node in self._consumers_in_order(source, last):
            if len(reached) > MAX_NODES:
                break
            key = self._key(node, reached, leaves)
            dependent = [reached[value] for value in node.inputs if value is not None and value in reached]
            nonlinear = any(value.nonlinear for value in dependent) or self.operators.nonlinear(
                node, len(dependent)
            )
            reached[node.outputs[0]] = _Reached(key, nonlinear)
        for output in outputs:
            if output in reached and reached[output].nonlinear:
                nodes = self._between(output, source, reached)
                used = tuple(leaf for leaf in leaves if any(leaf in node.inputs for node in nodes))
                yield Cone(source, output, nodes, used, reached[output].key)

    def _consumers_in_order(self, source: ir.Value, last: int) -> Iterator[ir.Node]:
        heap: list[int] = []
        seen: dict[int, None] = {}

        def push(value: ir.Value) -> None:
            for user, _ in value.uses():
                if user in self._calls:
                    position = self._position[user.outputs[0]]
                    if position <= last and position not in seen:
                        seen[position] = None
                        heapq.heappush(heap, position)

        push(source)
        while heap:
            node = self.nodes[heapq.heappop(heap)]
            yield node
            push(node.outputs[0])

    def _key(self, node: ir.Node, reached: dict[ir.Value, _Reached], leaves: dict[ir.Value, int]) -> int:
        operands: list[Any] = []
        for value in node.inputs:
            if value is None:
                operands.append(None)
            elif value in reached:
                operands.append(reached[value].key)
            elif is_content(fact := self.fact(value)):
                assert fact.array is not None
                operands.append((str(fact.array.dtype), fact.dtype, fact.array.shape, fact.array.tobytes()))
            else:
                index = leaves.setdefault(value, len(leaves))
                operands.append(("leaf", index, fact.shape, fact.dtype))
        return self._intern((self._call_keys[node], tuple(operands)))

    def _between(
        self, output: ir.Value, source: ir.Value, reached: dict[ir.Value, _Reached]
    ) -> tuple[ir.Node, ...]:
        nodes: dict[int, ir.Node] = {}
        stack = [output]
        while stack:
            value = stack.pop()
            producer = value.producer()
            if value is source or producer is None or self._position[value] in nodes:
                continue
            nodes[self._position[value]] = producer
            stack.extend(v for v in producer.inputs if v is not None and v in reached)
        return tuple(nodes[position] for position in sorted(nodes))


def is_content(fact: Fact) -> bool:
    """True for a value whose content belongs to the structure: a number, a shape, an index, not a gain."""
    if fact.array is None:
        return False
    return fact.array.size == 1 or np.issubdtype(fact.array.dtype, np.integer)


def _size(fact: Fact) -> int:
    return int(np.prod(fact.shape, dtype=np.int64)) if fact.shape is not None else -1


def _freeze(attributes: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((name, _plain(attributes[name])) for name in sorted(attributes))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return tuple(value) if isinstance(value, list) else value
