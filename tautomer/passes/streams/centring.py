"""Which values of a residual stream can have their mean taken out, and the cheapest way to do it.

A place is a value that is to have zero mean along digits. Its raw value has it when all that it is made of
has: constants (which are centred ahead) and other places. Any value may instead be centred at run time, at a
cost. So each place is two vertices, centred -> raw with the cost of a run-time centring, raw -> centred
operands without end, and the norms that want a centred input are worth their gain: a minimum cut.

    maximise  sum of gains of converted norms - sum of costs of run-time centrings
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import networkx as nx
import onnx_ir as ir
from networkx.algorithms.flow import boykov_kolmogorov

from tautomer.graph.call import call_of
from tautomer.graph.digits import Digits
from tautomer.graph.naming import label
from tautomer.passes.linear_maps.weight_check import expression_behind
from tautomer.passes.streams.mean_liveness import Live, Liveness
from tautomer.passes.streams.shift_carriers import carriers
from tautomer.passes.workspace import Workspace


@dataclass(frozen=True)
class Place:
    """A value that is to have zero mean along digits."""

    value: ir.Value
    digits: Digits


@dataclass(frozen=True)
class Writer:
    """A constant operand that is to be centred: where it is read, and along which digits."""

    node: ir.Node
    index: int
    digits: Digits


@dataclass(frozen=True)
class Obstacle:
    """Why a raw value cannot be centred by what it is made of.

    Attributes:
        node: the node at fault; None for an input or output of the model.
        reason: a sentence.
        hint: the remedy, where there is one.
    """

    node: ir.Node | None
    reason: str
    hint: str = ""


@dataclass
class Vertex:
    """What is known of a place.

    Attributes:
        needs: the places its raw value is made of, by operand.
        writers: the constants its raw value is made of.
        table: the Gather whose table others read too: row means are subtracted instead.
        obstacle: why neither helps.
        cost: of centring it at run time; None where that is not possible.
    """

    needs: dict[int, Place] = field(default_factory=dict)
    writers: list[Writer] = field(default_factory=list)
    table: bool = False
    obstacle: Obstacle | None = None
    cost: int | None = None


@dataclass(frozen=True)
class Costs:
    """In a unit of the caller's, per element of what is centred.

    Attributes:
        centring: at run time.
        row_means: subtracting the means of a table's rows.
        by_size: False counts each value as one element.
    """

    centring: float
    row_means: float
    by_size: bool = True

    def of(self, cost: float, elements: int) -> int:
        """The cost for a value of this size."""
        return max(round(1000 * cost * (elements if self.by_size else 1)), 1)


@dataclass(frozen=True)
class Plan:
    """The outcome.

    Attributes:
        converted: the norms (by their input's place) that are worth it.
        raw: places that are centred by what they are made of.
        centred: places that are centred at run time, for the readers that want it.
    """

    converted: tuple[Place, ...]
    raw: tuple[Place, ...]
    centred: tuple[Place, ...]


class Network:
    """The places behind a set of norms.

    Args:
        work: the model.
        liveness: what sees a mean.
        made: values that an operation computes as a whole, with its name.
        costs: of run-time work.
        barred: constants and values that must not be touched, with the reason.
        at_run_time: whether a place may be centred by an operation of its own.
    """

    def __init__(
        self,
        work: Workspace,
        liveness: Liveness,
        made: Mapping[ir.Value, str],
        costs: Costs,
        barred: Mapping[ir.Value, str],
        at_run_time: Callable[[Place], bool] = lambda place: True,
    ) -> None:
        self._work, self._liveness, self._made = work, liveness, made
        self._costs, self._barred, self._at_run_time = costs, barred, at_run_time
        self.vertices: dict[Place, Vertex] = {}

    def add(self, place: Place) -> None:
        """Adds a place and everything that it is made of."""
        stack = [place]
        while stack:
            top = stack.pop()
            if top not in self.vertices:
                self.vertices[top] = self._vertex(top)
                stack += reversed(self.vertices[top].needs.values())

    def _vertex(self, place: Place) -> Vertex:
        vertex = Vertex(cost=self._cost(place))
        value = place.value
        live = self._liveness.of(value)
        if value in self._barred:
            vertex.obstacle = Obstacle(value.producer(), self._barred[value])
            vertex.cost = None
        elif value in self._made:
            op = self._made[value]
            reason = f"{op} writes to its stream, and what comes out of a norm has a mean of its own"
            vertex.obstacle = Obstacle(value.producer(), reason)
        elif isinstance(live, Live):
            vertex.obstacle = Obstacle(live.node, live.reason, live.hint)
        elif not live.within(place.digits):
            vertex.obstacle = Obstacle(value.producer(), f"'{value.name}' is read along other axes too")
        else:
            self._writers(place, vertex)
        return vertex

    def _writers(self, place: Place, vertex: Vertex) -> None:
        work, node = self._work, place.value.producer()
        if node is None:
            vertex.obstacle = Obstacle(
                None,
                f"'{place.value.name}', an input of the model, is in its stream and may have any mean",
                "export the model from its token ids or pixels on",
            )
            return
        shape = work.facts.get(place.value).shape
        assert shape is not None
        domain = "" if node.domain == "ai.onnx" else node.domain
        call = call_of(node, work.model.opset_imports.get(domain, 0))
        facts = [None if value is None else work.facts.get(value) for value in node.inputs]
        through = carriers(call, facts, shape, place.digits, place.value.index() or 0)
        if through.stop:
            reason = f"node '{label(node)}' ({node.op_type}) writes to its stream: {through.stop}"
            vertex.obstacle = Obstacle(node, reason)
            return
        for index, digits in through.through.items():
            operand = node.inputs[index]
            assert operand is not None
            if not work.facts.get(operand).constant:
                if digits:
                    vertex.needs[index] = Place(operand, digits)
                    continue
                reason = f"node '{label(node)}' adds '{operand.name}', which is the same for a whole row"
                vertex.obstacle = Obstacle(node, reason)
                return
            obstacle = self._barred.get(operand) or expression_behind(work, operand)
            if isinstance(obstacle, str):
                reason = f"node '{label(node)}' ({node.op_type}) writes to its stream: {obstacle}"
                vertex.obstacle = Obstacle(node, reason)
                return
            if node.op_type == "Gather" and _is_shared(operand):
                vertex.table = True
            vertex.writers.append(Writer(node, index, digits))

    def _cost(self, place: Place) -> int | None:
        """Of a run-time centring: over whole axes of known extent only."""
        fact = self._work.facts.get(place.value)
        if fact.shape is None or fact.dtype is None or not fact.dtype.is_floating_point():
            return None
        if not self._at_run_time(place):
            return None
        axes = whole_axes(place.digits, fact.shape)
        if not axes or not self._work.recognition.static(place.value, axes):
            return None
        return self._costs.of(self._costs.centring, fact.size or 1)

    def plan(self, gains: Mapping[Place, float]) -> Plan:
        """The best set of norms to convert.

        Args:
            gains: what converting the norm that reads a place is worth, in the unit of the costs.
        """
        graph = nx.DiGraph()
        names = {place: position for position, place in enumerate(self.vertices)}
        for place, vertex in self.vertices.items():
            here = names[place]
            if vertex.cost is None:
                graph.add_edge(("centred", here), ("raw", here))  # without a capacity: without end
            else:
                graph.add_edge(("centred", here), ("raw", here), capacity=vertex.cost)
            if vertex.obstacle is not None:
                graph.add_edge(("raw", here), "sink")
                continue
            if vertex.table:
                cost = self._costs.of(self._costs.row_means, self._work.facts.get(place.value).size or 1)
                graph.add_edge(("raw", here), "sink", capacity=cost)
            for need in vertex.needs.values():
                graph.add_edge(("raw", here), ("centred", names[need]))
        for place, gain in gains.items():
            if gain > 0:
                graph.add_edge("source", ("centred", names[place]), capacity=round(1000 * gain))
        if "source" not in graph or "sink" not in graph:
            chosen = set(graph)  # nothing is in the way, or there is nothing to gain
        else:
            _, (chosen, _) = nx.minimum_cut(graph, "source", "sink", flow_func=boykov_kolmogorov)
        return self._read(gains, names, chosen)

    def _read(self, gains: Mapping[Place, float], names: Mapping[Place, int], chosen: set[object]) -> Plan:
        converted = tuple(p for p, gain in gains.items() if gain > 0 and ("centred", names[p]) in chosen)
        raw, centred, stack, seen = [], [], list(reversed(converted)), set(converted)
        while stack:  # from the norms back: what the cut chose and nothing needs is left alone
            place = stack.pop()
            if ("raw", names[place]) not in chosen:
                centred.append(place)
                continue
            raw.append(place)
            new = [need for need in self.vertices[place].needs.values() if need not in seen]
            stack += reversed(new)
            seen.update(new)
        return Plan(converted, tuple(raw), tuple(centred))

    def obstacle(self, place: Place) -> Obstacle | None:
        """What keeps a place from being centred by what it is made of: the nearest, and how many more."""
        found: list[Obstacle] = []
        stack, seen = [place], {place}
        while stack:
            vertex = self.vertices[stack.pop()]
            if vertex.obstacle is not None:
                found.append(vertex.obstacle)
                continue
            new = [need for need in vertex.needs.values() if need not in seen]
            stack += reversed(new)
            seen.update(new)
        if len(found) < 2:
            return found[0] if found else None
        more = f" (and {len(found) - 1} more of its writers or readers)"
        return replace(found[0], reason=found[0].reason + more)


def whole_axes(digits: Digits, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The axes that the digits are, when they are whole axes."""
    local = digits.per_axis(tuple(shape))
    if local is None or any(pieces and pieces != ((1, shape[axis]),) for axis, pieces in enumerate(local)):
        return None
    return tuple(axis for axis, pieces in enumerate(local) if pieces)


def _is_shared(table: ir.Value) -> bool:
    """Whether anything else reads a table, so that centring it would change that or take a copy."""
    return len(table.uses()) > 1 or table.is_graph_output()
