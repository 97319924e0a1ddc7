"""Which norms of a model can do without the mean, and the plan of centrings that stands.

A plan is asked for until nothing objects to it: a constant that cannot be centred and a value whose shift an
output sees after all are taken out of its reach, and the next plan does without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from tautomer.graph.digits import Digits
from tautomer.graph.naming import label
from tautomer.passes.linear_maps.weight_check import unfit
from tautomer.passes.raise_operations import what_goes
from tautomer.passes.streams.centring import Costs, Network, Place, Plan
from tautomer.passes.streams.liveness import Liveness
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.recognised import Recognised

# Where speed is not asked for: a norm is worth a little less than a run-time centring, so that one centring
# has to serve two norms.
COUNTED = Costs(1.001, 0.001, by_size=False)
_ROUNDS = 8  # each takes one more constant or value out of the plan

Objections = dict[ir.Value, str]


def place_of(work: Workspace, op: Recognised) -> Place | str:
    """What a layer normalisation reads, along its row; or why its mean is out of the question."""
    x = op.inputs[0]
    assert x is not None
    fact = work.facts.get(x)
    digits = None if fact.shape is None else Digits.along(fact.shape, op.axes)
    if op.graph is not work.model.graph:
        return "it is inside a sub-graph, and its stream is not followed there"
    if fact.shape is None or digits is None:
        return "the shape of its input is not known"
    if not digits:
        return "its rows are single elements, or its gain or bias has another shape than a row"
    if (reader := what_goes(op)[1]) is not None:
        return f"what it computes on the way is read elsewhere, by '{label(reader)}' first"
    if not work.recognition.static(x, op.axes):
        return "the length of its rows is not fixed"
    return Place(x, digits)


def standing_plan(
    work: Workspace,
    liveness: Liveness,
    gains: Mapping[Place, float],
    costs: Costs,
    *,
    objections: Callable[[Network, Plan], Objections] | None = None,
    at_run_time: Callable[[Place], bool] = lambda place: True,
) -> tuple[Network, Plan]:
    """The best plan of which all constants can be folded and no output sees a shift.

    Args:
        work: the model; it is not changed.
        liveness: what sees a mean in it.
        gains: what a conversion of the norms that read a place is worth.
        costs: of run-time work, in the same unit.
        objections: constants and values that a plan may not touch, with reasons; what `folding` says when
            left out.
        at_run_time: whether a place may be centred by an operation of its own.
    """
    made = {
        op.output: f"{op.op} '{label(op.node)}'"
        for op in work.recognition.operations
        if op.definition.rows and not op.definition.composite
    }
    object_to = objections or (lambda network, plan: folding(work, network, plan))
    barred: Objections = {}
    for _ in range(_ROUNDS):
        network = Network(work, liveness, made, costs, barred, at_run_time)
        for place in gains:
            network.add(place)
        plan = network.plan(gains)
        new = object_to(network, plan) or _moved(work, plan)
        if not new:
            return network, plan
        barred |= new
    return network, Plan((), (), ())


def folding(work: Workspace, network: Network, plan: Plan) -> Objections:
    """Constants of a plan that cannot be folded."""
    found: Objections = {}
    for place in plan.raw:
        for writer in network.vertices[place].writers:
            constant = writer.node.inputs[writer.index]
            assert constant is not None
            reason = unfit(work, constant)
            if reason:
                found[constant] = reason
    return found


def _moved(work: Workspace, plan: Plan) -> Objections:
    """A value of a plan whose shift an output of the original model sees after all."""
    shifts = {}
    for place in plan.raw:
        local = place.digits.per_axis(work.facts.get(place.value).shape or ())
        if local is not None:
            shifts[place.value] = {axis: pieces for axis, pieces in enumerate(local) if pieces}
    moved = work.evidence.moved(shifts) if shifts else None
    if moved is None:
        return {}
    values = list(shifts) if moved.value is None else [moved.value]
    return dict.fromkeys(values, moved.reason)
