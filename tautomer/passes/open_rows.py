"""A number of rows that is known only at run time, and a choice by it between two forms of one value.

y = If(size(x) <= FEW n, one form, the other),    x [..., n]: the form for a few rows, and the model's own
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, prod

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.facts import Facts, bind_symbols, extend
from tautomer.passes.workspace import Workspace
from tautomer.patterns.shapes_of_ours import facts_of
from tautomer.patterns.sparse_linear import FEW


@dataclass
class OpenRows:
    """What is known of open numbers of rows, and the conditions that were written on them."""

    work: Workspace
    _fewest: Facts | None = None
    _conditions: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def fewest(self, value: ir.Value | None) -> float:
        """The number of rows of a value where every open size is 1; infinite where it is not known."""
        if self._fewest is None:
            self._fewest = facts_of(self.work.model, dict.fromkeys(bind_symbols(self.work.model), 1))
        shape = self._fewest.get(value).shape
        return inf if shape is None else prod(shape[:-1])

    def choice(
        self,
        b: Builder,
        x: ir.Value,
        few: tuple[Builder, ir.Value],
        many: tuple[Sequence[ir.Node], ir.Value],
    ) -> ir.Value:
        """One of two forms of a value of the main graph, by the rows of another.

        Args:
            b: gets the If.
            x: whose rows count; its last size is known.
            few: new nodes for a few rows, and their result.
            many: nodes of the model, and the value that they give; what only it needs of them is copied.
        """
        dense = self.work.builder(self.work.model.graph)
        kept = _copied(dense, *many)
        then_branch, else_branch = self._branch(*few), self._branch(dense, kept)
        return b.op("If", self._condition(x), then_branch=then_branch, else_branch=else_branch)

    def _condition(self, x: ir.Value) -> ir.Value:
        """Whether a value has few rows; choices by one value share the nodes."""
        if x not in self._conditions:
            graph, producer = self.work.model.graph, x.producer()
            b = self.work.builder(graph)
            columns = (self.work.facts.get(x).shape or (0,))[-1]
            self._conditions[x] = b.op(
                "Less", b.op("Size", x), b.constant(np.array(FEW * columns + 1, np.int64))
            )
            if producer is None:
                self.work.place(b, graph[0])
            else:
                self.work.place_after(b, producer)
        return self._conditions[x]

    def _branch(self, b: Builder, output: ir.Value) -> ir.Graph:
        """New nodes as the body of an If; what they read is around it."""
        b.commit()
        extend(self.work.facts, self.work.model, b.nodes)
        return ir.Graph([], [output], nodes=b.nodes, name=self.work.names.fresh("tautomer/branch"))


def _copied(b: Builder, nodes: Sequence[ir.Node], wanted: ir.Value) -> ir.Value:
    """A copy of those of the nodes that only the wanted value needs."""
    needed: list[ir.Node] = []
    inside = set(nodes)
    for node in reversed(list(nodes[0].graph or ())):
        own = all(
            not value.is_graph_output() and all(reader in needed for reader, _ in value.uses())
            for value in node.outputs
        )
        if node in inside and (wanted in node.outputs or own):
            needed.append(node)
    copies: dict[ir.Value, ir.Value] = {}
    for node in reversed(needed):
        inputs = [value and copies.get(value, value) for value in node.inputs]
        made = b.several(node.op_type, len(node.outputs), *inputs, domain=node.domain, **node.attributes)
        copies.update(zip(node.outputs, made, strict=True))
    return copies[wanted]
