"""What is to be done to a module, as plain data: which norms become which, which tensors are centred.

The analysis is the one that ONNX models get; here its places and writers are found back in the module.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import nn

from tautomer.graph.naming import label
from tautomer.passes.streams.centred import split
from tautomer.passes.streams.centring import Network, Place, Plan, whole_axes
from tautomer.passes.streams.mean_liveness import mean_liveness
from tautomer.passes.streams.stream_plan import COUNTED, Objections, place_of, standing_plan
from tautomer.passes.streams.writer_leaves import Leaf, leaves_of
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.recognise import recognise
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.runtime.evidence import Trust
from tautomer.runtime.torch.boundaries import boundary_of
from tautomer.runtime.torch.centring import Boundary, Centring
from tautomer.runtime.torch.convert_trace import Traced
from tautomer.runtime.torch.layer_norms import NormModule, layer_norm_module
from tautomer.runtime.torch.module_tensors import ModuleTensors

RULE = "convert"
OP = "LayerNormalization"
# Nodes that move elements may be part of an operation and belong to the code around its module.
_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
_READS_NO_VALUES = ("Shape", "Size")


@dataclass(frozen=True)
class ModulePlan:
    """A conversion.

    Attributes:
        norms: the modules that are replaced.
        centrings: the parameters and buffers that are centred.
        boundaries: what is centred while the model runs.
        remarks: one for each layer normalisation, then one for each of the boundaries.
    """

    norms: tuple[NormModule, ...] = ()
    centrings: tuple[Centring, ...] = ()
    boundaries: tuple[Boundary, ...] = ()
    remarks: tuple[Remark, ...] = ()


def plan_module(model: nn.Module, traced: Traced) -> ModulePlan:
    """The best conversion of a module.

    Args:
        model: it is not changed.
        traced: its graph.
    """
    return _Planner(model, traced).plan()


@dataclass
class _Planner:
    """One module."""

    model: nn.Module
    traced: Traced
    remarks: list[Remark] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.work = Workspace.of(self.traced.model, recognise(self.traced.model), Trust())
        operations = self.work.recognition.operations
        self.liveness = mean_liveness(self.work.model, self.work.facts, operations)
        self.tensors = ModuleTensors(self.model)

    def plan(self) -> ModulePlan:
        """Plans until no module would be converted for some of its calls only."""
        norms = self._norms()
        while True:
            gains: dict[Place, float] = {}
            for places in norms.values():
                for place in places:
                    gains[place] = gains.get(place, 0.0) + 1.0 / len(places)
            network, plan = standing_plan(
                self.work,
                self.liveness,
                gains,
                COUNTED,
                objections=self._objections,
                at_run_time=lambda place: self._boundary(place) is not None,
            )
            torn = [
                m for m, places in norms.items() if len({place in plan.converted for place in places}) > 1
            ]
            for module in torn:
                reason = "it is called several times, and not all of its streams can be centred"
                self._missed(module.name, reason)
                del norms[module]
            if not torn:
                return self._read(norms, network, plan)

    def _norms(self) -> dict[NormModule, list[Place]]:
        """The layer normalisations that modules compute, with what they read; remarks on all others."""
        found: dict[NormModule, list[Place]] = {}
        for op in self.work.recognition.operations:
            if op.op != OP:
                continue
            names = self._modules_of(op)
            place = place_of(self.work, op)
            if isinstance(place, str):
                self._missed(names[0] if len(names) == 1 else label(op.node), place)
            elif len(names) != 1:
                self._missed(label(op.node), "no module of its own computes it, and modules are replaced")
            else:
                module = layer_norm_module(self.model, names[0], op, self.work.facts)
                if isinstance(module, str):
                    self._missed(names[0], module)
                else:
                    found.setdefault(module, []).append(place)
        return found

    def _modules_of(self, op: Recognised) -> list[str]:
        """The innermost modules of an operation's nodes."""
        computing = [node for node in op.nodes if node.op_type not in _MOVES] or list(op.nodes)
        names = [self.traced.module_of(node) for node in computing]
        return list(dict.fromkeys(name for name in names if name is not None))

    def _boundary(self, place: Place) -> Boundary | None:
        shape = self.work.facts.get(place.value).shape
        axes = None if shape is None else whole_axes(place.digits, shape)
        if not axes or shape is None:
            return None
        return boundary_of(self.traced, self.liveness, place, tuple(axis - len(shape) for axis in axes))

    def _objections(self, network: Network, plan: Plan) -> Objections:
        """Constant operands of a plan that cannot be centred in the module, with reasons."""
        return self._leaves(network, plan)[1]

    def _leaves(self, network: Network, plan: Plan) -> tuple[list[Leaf], Objections]:
        """The tensors that a plan centres, and the operands for which that cannot be done."""
        writers = [writer for place in plan.raw for writer in network.vertices[place].writers]
        read = [(writer, leaves_of(self.work, writer)) for writer in writers]
        leaves = [leaf for _, found in read if not isinstance(found, str) for leaf in found]
        refused: Objections = {}
        for writer, found in read:
            operand = writer.node.inputs[writer.index]
            assert operand is not None
            reasons = [found] if isinstance(found, str) else [self._refusal(leaf, leaves) for leaf in found]
            reason = next((reason for reason in reasons if reason), "")
            if reason:
                refused[operand] = reason
        return leaves, refused

    def _refusal(self, leaf: Leaf, leaves: list[Leaf]) -> str:
        """Why a tensor may not be centred for one of its readers, or ""."""
        name = self.traced.tensors.get(leaf.value)
        if name is None:
            return f"'{leaf.value.name}' is a number in the code, not a parameter"
        reason = self.tensors.unfit(name)
        if reason:
            return reason
        same = {(id(each.node), each.index): each.digits for each in leaves if each.value is leaf.value}
        for node, index in leaf.value.uses():
            if node.op_type in _READS_NO_VALUES or (node, index) not in self.liveness.edges:
                continue
            if same.get((id(node), index)) != leaf.digits:
                where = self.traced.module_of(node) or "the model"
                return f"'{name}' is read by '{where}' too, which needs it as it is"
        return ""

    def _read(self, norms: dict[NormModule, list[Place]], network: Network, plan: Plan) -> ModulePlan:
        converted: list[NormModule] = []
        for module, places in norms.items():
            if places[0] not in plan.converted:
                self._kept(module, network, places[0])
                continue
            drops = any(self._drops(network, plan, place) for place in places)
            converted.append(replace(module, centre_in_training=drops))
            reason = "what writes to its stream is centred, so it needs no mean"
            if drops:
                reason += "; while training it takes the mean out, since its stream has dropout"
            self.remarks.append(Remark("passed", RULE, OP, module.name, reason))
        boundaries: list[Boundary] = []
        for place in plan.centred:
            boundary = self._boundary(place)
            assert boundary is not None
            boundaries.append(boundary)
            way = "enters" if boundary.entering else "leaves"
            reason = f"what {way} it is centred at run time, once for all norms behind it"
            self.remarks.append(Remark("analysis", RULE, "ReduceMean", boundary.module, reason))
        leaves, _ = self._leaves(network, plan)
        centrings = dict.fromkeys(self._centring(leaf) for leaf in leaves)
        return ModulePlan(tuple(converted), tuple(centrings), tuple(boundaries), tuple(self.remarks))

    def _drops(self, network: Network, plan: Plan, place: Place) -> bool:
        """Whether dropout lies between what is centred and a norm."""
        stack, seen = [place], {place}
        while stack:
            top = stack.pop()
            if self.traced.drops(top.value):
                return True
            needs = network.vertices[top].needs.values() if top in plan.raw else ()
            new = [need for need in needs if need not in seen]
            stack += new
            seen.update(new)
        return False

    def _centring(self, leaf: Leaf) -> Centring:
        shape = self.work.facts.get(leaf.value).shape
        assert shape is not None
        local = leaf.digits.per_axis(shape)
        assert local is not None
        sizes, axes = split(local, shape)
        return Centring(self.traced.tensors[leaf.value], tuple(sizes), tuple(axes))

    def _kept(self, module: NormModule, network: Network, place: Place) -> None:
        obstacle = network.obstacle(place)
        if obstacle is None:
            self._missed(module.name, "too few norms would gain from what its stream needs at run time")
            return
        where = None if obstacle.node is None else self.traced.module_of(obstacle.node)
        reason = f"{obstacle.reason}, in module '{where}'" if where else obstacle.reason
        self._missed(module.name, reason, obstacle.hint)

    def _missed(self, name: str, reason: str, hint: str = "") -> None:
        self.remarks.append(Remark("missed", RULE, OP, name, reason, hint))
