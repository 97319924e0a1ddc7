"""Through which operands of a node a shift reaches its output as a shift.

An output is affine in an operand x when out(x + s) = out(x) + L(s) with a linear L that does not depend on
x. A set of digits J of the output, see `tautomer.graph.digits`, is carried through the operands with digits
K_i such that

    (a) s_i constant along K_i for all of them  =>  L(s) constant along J,
    (b) mean of x_i along K_i zero for all of them  =>  mean of out along J zero.

By (a) it is found backwards what may be shifted, by (b) forwards what has mean zero: one table for both. No
digits at all, K_i = {}, mean in (a) that the operand may be anything and in (b) that it must vanish.

    @carrier("Identity", "Neg")
    def same(site):
        return {0: site.wanted}

A rule gets a `Site` and returns digits by operand, or raises `Stop` with half a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from tautomer.graph.call import Call
from tautomer.graph.digits import Digits, Local
from tautomer.graph.fact import Fact, Shape
from tautomer.graph.shape_rules import Unknown, known

Through = dict[int, Digits]


@dataclass(frozen=True)
class Carriers:
    """The operands that carry a shift.

    Attributes:
        through: the digits of each operand that carries.
        stop: why none does, as half a sentence after the node's name, or "".
        kept: why other operands do not, where there is more to say than that.
    """

    through: Mapping[int, Digits] = field(default_factory=dict)
    stop: str = ""
    kept: Mapping[int, str] = field(default_factory=dict)

    @property
    def must_vanish(self) -> frozenset[int]:
        """The operands that have to be zero for the output to have mean zero."""
        return frozenset(i for i, digits in self.through.items() if not digits)

    def reason(self, operand: int) -> str:
        """Why the operand may not be shifted; "" when it may."""
        if operand in self.through:
            return ""
        return self.stop or self.kept.get(operand, "it depends on its exact value")


class Stop(Exception):
    """Nothing passes; the message says why."""


@dataclass(frozen=True)
class Site:
    """What a rule looks at.

    Attributes:
        call: the node.
        inputs: a fact per operand, None for one that is left out.
        out: the shape of the output that is asked about.
        wanted: the digits of that output.
    """

    call: Call
    inputs: Sequence[Fact | None]
    out: Shape
    wanted: Digits

    @property
    def cut(self) -> tuple[Local, ...]:
        """The pieces of the wanted digits in each axis of the output."""
        cut = self.wanted.per_axis(self.out)
        if cut is None:
            raise Stop("its axes cut through groups of channels")
        return cut

    def shape(self, i: int) -> Shape:
        """The shape of an operand that has to be there."""
        if i >= len(self.inputs):
            raise Unknown
        return known(self.inputs, i)

    def broadcast(self, i: int) -> Digits:
        """The digits of an operand that is broadcast to the output."""
        digits = self.wanted.broadcast_to_operand(self.out, self.shape(i))
        if digits is None:
            raise Stop("its axes cut through groups of channels")
        return digits

    def digits(self, i: int, local: Sequence[Local]) -> Digits:
        """The digits of an operand with these pieces in its axes. What has no elements is of no account."""
        shape = self.shape(i)
        digits = Digits.EMPTY if 0 in shape else Digits.from_axes(shape, local)
        if digits is None:
            raise Stop("its axes cut through groups of channels")
        return digits

    def only(self, axes: Sequence[int]) -> bool:
        """Whether the wanted digits lie on these axes, which are counted from the front."""
        return all(axis in axes for axis, pieces in enumerate(self.cut) if pieces)

    def untouched(self, axes: Sequence[int], why: str) -> None:
        """Stops when a wanted digit lies on one of these axes."""
        if any(self.cut[axis] for axis in axes):
            raise Stop(why)


Rule = Callable[[Site], Through | Carriers]
_RULES: dict[str, Rule] = {}


def carrier(*names: str) -> Callable[[Rule], Rule]:
    """Registers the rule of operators of ONNX's own domain."""

    def register(rule: Rule) -> Rule:
        _RULES.update((name, rule) for name in names)
        return rule

    return register


@cache
def _load() -> None:
    """Imports every file of rules, once; importing is registering."""
    from tautomer.passes.streams import (
        shift_carriers_linear,  # noqa: F401
        shift_carriers_movement,  # noqa: F401
    )


def carriers(
    call: Call, inputs: Sequence[Fact | None], output_shape: Shape, wanted: Digits, output: int = 0
) -> Carriers:
    """The operands through which a shift of an output along these digits comes.

    Args:
        call: the node.
        inputs: a fact per operand, None for one that is left out.
        output_shape: the shape of that output.
        wanted: digits of that output.
        output: which output it is.
    """
    _load()
    rule = _RULES.get(call.op_type) if call.domain == "" else None
    if rule is None:
        return Carriers(stop=why_not(call))
    if output > 0 and call.op_type != "Split":
        return Carriers(stop=f"{call.op_type} is not linear in that output")
    try:
        if 0 in output_shape:
            raise Stop("it makes a tensor without elements")
        found = rule(Site(call, inputs, output_shape, wanted))
    except Stop as stop:
        return Carriers(stop=str(stop))
    except Exception:  # a damaged node, or a shape that is not known
        return Carriers(stop=f"what {call.op_type} does to it is not known before the model runs")
    return found if isinstance(found, Carriers) else Carriers(found)


def carries(call: Call) -> bool:
    """Whether the operator passes a shift on at all."""
    _load()
    return call.domain == "" and call.op_type in _RULES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PICKS = _words(
    "MaxPool GlobalMaxPool MaxRoiPool MaxUnpool ReduceMax ReduceMin TopK Max Min ArgMax ArgMin NonZero "
    "Compress Unique GatherElements ScatterElements NonMaxSuppression"
)
_COMPARES = _words("Equal Greater GreaterOrEqual Less LessOrEqual IsNaN IsInf")
_ROUNDS = _words("Cast QuantizeLinear DynamicQuantizeLinear Round Floor Ceil")
_WITHOUT_RULE = _words("Einsum Trilu DepthToSpace SpaceToDepth ReverseSequence Attention Upsample")
_OTHERS = {
    "BatchNormalization": "it gives every channel a factor of its own",
    **{name: f"it is read inside {name}" for name in ("If", "Loop", "Scan")},
}


def why_not(call: Call) -> str:
    """Why an operator that has no rule passes nothing on, as half a sentence."""
    name = call.op_type
    if call.domain:
        return f"nothing is known of {call.domain}.{name}"
    if name in _PICKS:
        return f"{name} picks elements"
    if name in _COMPARES:
        return f"{name} compares it"
    if name in _ROUNDS:
        return f"{name} rounds it"
    if name in _WITHOUT_RULE or name in _RULES or name.startswith(("Sequence", "Optional")):
        return f"{name} is not known to pass a shift on"
    return _OTHERS.get(name, f"{name} is not linear")
