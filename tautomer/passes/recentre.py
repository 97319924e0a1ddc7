"""recentre: LayerNormalization(x)  ->  RMSNormalization(x - mean(x)), the mean taken out of what writes x.

    1^T x = 0   =>   (x - mean x) / sqrt(var x + epsilon) = x / sqrt(mean x^2 + epsilon)

Condition: no reader of the stream sees its mean (mean-liveness), so that every constant that writes to it may
be centred; what cannot be centred ahead is centred once at run time where that costs less than the norms
behind it gain. All of a plan is applied at once: an RMSNormalization is no longer blind to a mean.
Sources: arXiv 2305.14858 (the rewrite), arXiv 2605.14521 (finding it in a graph).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from tautomer.graph.naming import label
from tautomer.passes.linear_maps.linear_readers import linear_readers, moves_behind
from tautomer.passes.operands import operands_of
from tautomer.passes.operation_forms import Choice, Site, choose, write
from tautomer.passes.streams.centring import Costs, Network, Place, Plan
from tautomer.passes.streams.centring_plan import Centred, apply_plan, members
from tautomer.passes.streams.known import StreamNorm
from tautomer.passes.streams.mean_liveness import mean_liveness
from tautomer.passes.streams.stream_plan import COUNTED, place_of, standing_plan
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import function_of
from tautomer.patterns.operation import definition_of
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target

# A layer norm takes the mean out of the gradient that comes in. An RMS norm passes it on to where weights are
# centred, and a loss may weigh all channels alike: then its rounding is several times that of what is left.
_ASK = "--norm rms converts it all the same"
_EVERY_RUN = "its stream would be centred in every run, and forward and backward no gain was measured"
_GIVEN_OUT = "its result is an output, and in training its gradient may be mostly mean"

Norm = Literal["auto", "ln", "rms", "crms", "crms-orthonormal"]


@dataclass(frozen=True)
class Recentre:
    """Converts layer normalisations.

    Attributes:
        target: its costs decide, and its forms.
        norm: "auto" converts what gains, "ln" nothing, all others as many as can be converted.
        in_every_run: whether weights are centred whenever the model runs, as in training, and not ahead; no
            target was measured to gain then.
    """

    name: ClassVar[str] = "recentre"
    target: Target
    norm: Norm = "auto"
    in_every_run: bool = False

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each layer normalisation."""
        if self.norm == "ln" or (self.norm == "auto" and not self.target.costs):
            return []
        candidates, remarks = self._candidates(work)
        if self.norm == "auto" and self.in_every_run:
            kept = [_missed(op, _EVERY_RUN, _ASK) for ops in candidates.values() for op, _ in ops]
            return [*remarks, *kept]
        if not candidates:
            return remarks
        blind = work.blind()
        if blind:
            return [*remarks, *(_missed(op, blind) for ops in candidates.values() for op, _ in ops)]
        network, plan = self._plan(work, candidates)
        at_run_time = [_centring_remark(place) for place in plan.centred]  # while values have their names
        centred = apply_plan(work, network, plan)
        work.streams.members += members(network, plan, centred)
        for place, ops in candidates.items():
            for op, choice in ops:
                if place in plan.converted:
                    remarks.append(self._convert(work, op, choice, place, centred))
                else:
                    remarks.append(self._kept(op, place, network))
        return [*remarks, *at_run_time]

    def _candidates(
        self, work: Workspace
    ) -> tuple[dict[Place, list[tuple[Recognised, Choice]]], list[Remark]]:
        """The layer normalisations by what they read, and remarks on those that are out of the question."""
        candidates: dict[Place, list[tuple[Recognised, Choice]]] = {}
        remarks: list[Remark] = []
        for op in [op for op in work.recognition.operations if op.op == "LayerNormalization"]:
            place = place_of(work, op)
            if isinstance(place, str):
                remarks.append(_missed(op, place))
            else:
                dtype = work.facts.get(op.output).dtype or work.facts.get(place.value).dtype
                choice = choose(Site.at(work, _as_rms(op), dtype, self.target))
                if self.in_every_run and _given_out(work, op):
                    remarks.append(_missed(op, _GIVEN_OUT))
                elif choice.form == "keep":
                    reason = f"an RMSNormalization cannot be written here: {choice.reason}"
                    remarks.append(_missed(op, reason, choice.hint))
                else:
                    candidates.setdefault(place, []).append((op, choice))
        return candidates, remarks

    def _plan(
        self, work: Workspace, candidates: dict[Place, list[tuple[Recognised, Choice]]]
    ) -> tuple[Network, Plan]:
        """The best plan that stands."""
        costs = COUNTED
        if self.norm == "auto":
            costs = Costs(self.target.costs["centring"], self.target.costs["row means"])
        gains = {place: sum(self._gain(work, op) for op, _ in ops) for place, ops in candidates.items()}
        liveness = mean_liveness(work.model, work.facts, work.recognition.operations)
        return standing_plan(work, liveness, gains, costs)

    def _gain(self, work: Workspace, op: Recognised) -> float:
        """What a conversion is worth: a count, or nanoseconds."""
        if self.norm != "auto":
            return 1.0
        assert op.inputs[0] is not None
        costs, size = self.target.costs, work.facts.get(op.inputs[0]).size or 1
        gain = costs["LayerNormalization"] - costs["RMSNormalization"]
        return size * (gain - (0.0 if _bias_goes(work, op) else costs["Add"]))

    def _convert(
        self, work: Workspace, op: Recognised, choice: Choice, place: Place, centred: dict[Place, Centred]
    ) -> Remark:
        b = work.builder(op.graph)
        rms = _as_rms(op)
        dtype = work.facts.get(op.output).dtype
        assert dtype is not None
        operands = operands_of(work, rms, dtype, b, bias_is_optional=True)
        assert not isinstance(operands, str), operands
        if place in centred:
            operands[0] = centred[place].value
        x = operands[0]
        assert x is not None
        result = write(choice.form, rms, operands, dtype, len(work.facts.get(x).shape or ()), b)
        if choice.form == "function":
            work.declare(function_of(rms.definition, work.version))
        nodes = tuple(b.nodes)
        done = result
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        if bias is not None:
            done = b.op("Add", result, work.now(bias))
        where = label(op.node)
        work.replace(op.output, done, b, op.nodes)
        work.facts.set(result, work.facts.get(done))
        now = replace(rms, inputs=tuple(operands), output=result, nodes=nodes, factors={})
        operations = work.recognition.operations
        operations[operations.index(op)] = now
        work.centred[x] = op.axes
        work.streams.norms.append(StreamNorm(x, now, where))
        reason = "what writes to its stream is centred, so it is an RMSNormalization"
        return Remark("passed", self.name, op.op, where, reason)

    def _kept(self, op: Recognised, place: Place, network: Network) -> Remark:
        obstacle = network.obstacle(place)
        if obstacle is None:
            reason = (
                f"nothing stands in the way, but the target {self.target.name} would gain nothing from it"
            )
            return _missed(op, reason, _ASK)
        return _missed(op, obstacle.reason, obstacle.hint)


def _as_rms(op: Recognised) -> Recognised:
    """The operation once its input has mean zero, without its bias."""
    attributes = {key: value for key, value in op.attributes.items() if key != "stash_type"}
    definition = definition_of("RMSNormalization", attributes)
    assert definition is not None
    return replace(op, definition=definition, inputs=op.inputs[:2])


def _given_out(work: Workspace, op: Recognised) -> bool:
    """Whether the model gives what the norm computes, or a part of it, to its caller."""
    moved = (node.outputs[0] for node in moves_behind(work, op.output))
    return any(value.is_graph_output() for value in (op.output, *moved))


def _bias_goes(work: Workspace, op: Recognised) -> bool:
    """Whether there is no bias, or one that all readers can take into theirs."""
    if len(op.inputs) < 3 or op.inputs[2] is None:
        return True
    readers = linear_readers(work, op.output)
    return not isinstance(readers, str) and all(reader.bias is not None for reader in readers)


def _centring_remark(place: Place) -> Remark:
    node = place.value.producer()
    where = label(node) if node is not None else str(place.value.name)
    return Remark(
        "analysis",
        Recentre.name,
        "ReduceMean",
        where,
        f"'{place.value.name}' is centred at run time, once for all norms behind it",
    )


def _missed(op: Recognised, reason: str, hint: str = "") -> Remark:
    return Remark("missed", Recentre.name, op.op, label(op.node), reason, hint)
