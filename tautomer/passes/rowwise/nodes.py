"""The nodes that rowwise regions are made of: those that the body of a rowwise operator can have."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.call import Call, call_of
from tautomer.graph.fact import Shape
from tautomer.graph.facts import Fact, Facts
from tautomer.patterns.meaning import named
from tautomer.patterns.operation import Definition
from tautomer.patterns.rowwise.vocabulary import POINTWISE as READ_AS_THEY_ARE
from tautomer.patterns.rowwise.vocabulary import REDUCTIONS

MOVES = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Cast"})
CHANNELS = frozenset({"BatchNormalization", "InstanceNormalization", "GroupNormalization"})
POINTWISE = READ_AS_THEY_ARE | {"PRelu"}


class Unfit(Exception):
    """A node cannot stand in a region.

    Args:
        reason: why.
        inner_axes: whether it is because axes are reduced that are not the last ones.
    """

    def __init__(self, reason: str, *, inner_axes: bool = False) -> None:
        self.inner_axes = inner_axes
        super().__init__(reason)


@dataclass(frozen=True)
class Sizes:
    """Facts for two choices of numbers for the symbolic sizes: what holds for both holds for all."""

    here: Facts
    there: Facts

    def shapes(self, value: ir.Value | None) -> tuple[Shape, Shape]:
        """The shapes of a value.

        Raises:
            Unfit: they are not known.
        """
        a, b = self.here.get(value).shape, self.there.get(value).shape
        if value is None or a is None or b is None:
            raise Unfit(f"the shape of '{value.name if value else ''}' is not known")
        return a, b

    def fact(self, value: ir.Value | None) -> Fact:
        """What else is known of it."""
        return self.here.get(value)


def stands_for(call: Call) -> Definition | None:
    """The definition of a call that can be written out in a body."""
    found = named(call)
    return found[0] if found is not None and found[0].rows in ("", "trailing", "axis") else None


def is_pointwise(node: ir.Node, version: int) -> bool:
    """Whether a node computes each element from those at its place, and a body can have it."""
    if node.domain in ("", "ai.onnx") and node.op_type in POINTWISE:
        return True
    definition = stands_for(call_of(node, version))
    return definition is not None and not definition.rows


def may_stand(node: ir.Node, version: int) -> bool:
    """Whether an operator is one that regions are made of, whatever it reads."""
    if node.domain in ("", "ai.onnx") and node.op_type in (MOVES | CHANNELS | POINTWISE | REDUCTIONS.keys()):
        return True
    return stands_for(call_of(node, version)) is not None
