"""What the readers of a value demand of it: digits along which it may be shifted, or that it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from tautomer.graph.digits import Digits
from tautomer.graph.naming import label, printable


@dataclass(frozen=True)
class Live:
    """A value that may not be shifted.

    Attributes:
        node: the node that sees it, or None when an output of the model shows it.
        reason: that, as a sentence.
        hint: what its author can do, or "".
        far: how many nodes lie between the value and the cause.
    """

    node: ir.Node | None
    reason: str
    hint: str = ""
    far: int = 0


Demand = Digits | Live
Edge = tuple[ir.Node, int]


@dataclass
class Liveness:
    """What may be added to the values of a model's main graph.

    Attributes:
        edges: what each operand that is read allows.
        inside: operands that an operation of several nodes computes for itself.
        ends: values that are seen outside of the main graph's nodes.
        place: the position of each node of the main graph.
    """

    edges: dict[Edge, Demand] = field(default_factory=dict)
    inside: dict[Edge, Live] = field(default_factory=dict)
    ends: dict[ir.Value, Live] = field(default_factory=dict)
    place: dict[ir.Node, int] = field(default_factory=dict)

    def of(self, value: ir.Value) -> Demand:
        """The digits along which a shift of the value must be constant, as all its readers agree.

        No digits at all when nothing that matters reads it.
        """
        return self._all(value, inside=True)

    def at(self, node: ir.Node, index: int) -> Demand:
        """The same for one operand of one node alone."""
        if node not in self.place:
            return seen(node, "it is not in the main graph")
        edge = node, index
        return self.inside.get(edge) or self.edges.get(edge, Digits.EMPTY)

    def passed_on(self, value: ir.Value) -> Demand:
        """What the producer of the value has to care for: not what an operation computes for itself."""
        return self._all(value, inside=False)

    def _all(self, value: ir.Value, inside: bool) -> Demand:
        demands: list[tuple[ir.Node | None, Demand]] = []
        for edge in self._readers(value):
            demand = (self.inside.get(edge) if inside else None) or self.edges.get(edge)
            if demand is not None:
                demands.append((edge[0], demand))
        if value in self.ends:
            demands.append((self.ends[value].node, self.ends[value]))
        return met(value, demands)

    def _readers(self, value: ir.Value) -> list[Edge]:
        """The operands of the main graph that are this value, in the order of the graph."""
        uses = [(use.node, use.idx) for use in value.uses() if use.node in self.place]
        return sorted(uses, key=lambda use: (self.place[use[0]], use[1])) if len(uses) > 1 else uses


def met(value: ir.Value, demands: Sequence[tuple[ir.Node | None, Demand]]) -> Demand:
    """What all readers allow; of what they do not, the nearest cause, and of those the first."""
    faults = [demand for _, demand in demands if isinstance(demand, Live)]
    if faults:
        return min(faults, key=lambda fault: fault.far)
    together = Digits.EMPTY
    for reader, demand in demands:
        assert isinstance(demand, Digits) and reader is not None
        both = together.meet(demand)
        if both is None:
            return seen(reader, f"it groups the channels of {name_of(value)} in another way than other nodes")
        together = both
    return together


def seen(node: ir.Node, why: str) -> Live:
    """The node sees a shift."""
    return Live(node, f"node {who(node)} sees it: {why}")


def who(node: ir.Node) -> str:
    """A node in a message."""
    return f"'{label(node)}' ({printable(node.op_type)})"


def name_of(value: ir.Value) -> str:
    """A value in a message."""
    return f"'{printable(value.name or '')}'"
