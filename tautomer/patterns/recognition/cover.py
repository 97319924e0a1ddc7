"""Covering a graph: every value that is needed takes the largest operation that computes it.

The walk goes back from what is read outside, and only what it comes to is evaluated: the inside of an
operation that was recognised is never looked at again.
"""

from __future__ import annotations

import onnx_ir as ir

from tautomer.patterns.recognition.cone_operators import is_movement
from tautomer.patterns.recognition.cones import Cone, ConeFinder
from tautomer.patterns.recognition.confirmer import Confirmer
from tautomer.patterns.recognition.match import Match, Refusal
from tautomer.patterns.recognition.naming_operations import by_name, recognised, trailing_axes
from tautomer.patterns.recognition.recognised import Recognised


class Covering:
    """The operations of one graph.

    Args:
        graph: the graph.
        finder: proposes its cones.
        confirm: decides on them.

    Attributes:
        refusals: output -> cones that were refused, and why.
        proposed: how many cones there are.
    """

    def __init__(self, graph: ir.Graph, finder: ConeFinder, confirm: Confirmer) -> None:
        self._graph, self._finder, self._confirm = graph, finder, confirm
        self._cones: dict[ir.Value, list[Cone]] = {}
        self.refusals: dict[ir.Value, list[tuple[Cone, Refusal]]] = {}
        for cone in finder.cones():
            self._cones.setdefault(cone.output, []).append(cone)
        self.proposed = sum(map(len, self._cones.values()))
        self._best: dict[ir.Value, tuple[Cone, Match] | None] = {}

    def operations(self) -> list[Recognised]:
        """The simple operations, in topological order."""
        needed: dict[ir.Value, None] = dict.fromkeys(self._graph.outputs)
        inside = set(map(id, self._finder.nodes))
        found: list[Recognised] = []
        for node in reversed(self._finder.nodes):
            outputs = [value for value in node.outputs if value in needed or _read_elsewhere(value, inside)]
            if not outputs:
                continue
            operation = self._operation(node, needed) if len(outputs) == 1 else None
            operation = operation or by_name(self._graph, node, self._finder)
            if operation is not None:
                found.append(operation)
            reads = operation.inputs if operation is not None else node.inputs
            needed.update(dict.fromkeys(value for value in reads if value is not None))
        return found[::-1]

    def _operation(self, node: ir.Node, needed: dict[ir.Value, None]) -> Recognised | None:
        if is_movement(node) and self._is_read_before(node, needed):
            return None
        best = self._best_of(node.outputs[0])
        if best is None:
            return None
        cone, match = best
        if match.special and self._has_exact_inside(cone, match):
            return None
        return recognised(self._finder, cone, match)

    def _is_read_before(self, node: ir.Node, needed: dict[ir.Value, None]) -> bool:
        """A node that only rearranges a result that somebody reads as it is: it is outside."""
        source = node.inputs[0]
        if source is None or not (source in needed or source.is_graph_output() or len(source.uses()) > 1):
            return False
        return self._best_of(source) is not None

    def _has_exact_inside(self, cone: Cone, match: Match) -> bool:
        """Whether a part of it is the same operation on NaN and infinities, too; the rest is a guard."""
        for node in cone.nodes[:-1]:
            inner = self._best_of(node.outputs[0])
            if inner is not None and inner[1].definition is match.definition and not inner[1].special:
                return True
        return False

    def _best_of(self, output: ir.Value) -> tuple[Cone, Match] | None:
        """The largest cone that is an operation; one that needs a transpose or a remark comes last."""
        if output not in self._best:
            self._best[output] = self._search(output)
        return self._best[output]

    def _search(self, output: ir.Value) -> tuple[Cone, Match] | None:
        second: tuple[Cone, Match] | None = None
        for cone in sorted(self._cones.get(output, ()), key=lambda cone: -len(cone.nodes)):
            found = self._confirm(cone, self._finder)
            if isinstance(found, Refusal):
                self.refusals.setdefault(output, []).append((cone, found))
            elif not found.special and not self._needs_transpose(cone, found):
                return cone, found
            else:
                second = second or (cone, found)
        return second

    def _needs_transpose(self, cone: Cone, match: Match) -> bool:
        return match.definition.rows == "trailing" and trailing_axes(self._finder, cone, match) is None


def _read_elsewhere(value: ir.Value, inside: set[int]) -> bool:
    return any(id(user) not in inside for user, _ in value.uses())
