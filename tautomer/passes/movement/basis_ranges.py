"""Ranges of the last axis of what is computed from a number and constant knots, from ranges of the knots.

    slice(f(a, b)) = f(slice(a), slice(b))        f pointwise

A slice of a slice is a slice, so that no slice of anything is left but of constants. Guards are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.naming import label, printable
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.mathematics import Float64
from tautomer.passes.finite_guards import guard_of
from tautomer.passes.linear_maps.weight_check import expression_behind
from tautomer.passes.movement.slices import first_of
from tautomer.passes.workspace import Workspace

_MOST_KNOTS = 1 << 20


class Stays(Exception):
    """Why a basis stays as it is, as a sentence; none for what is no basis."""


def is_plain(node: ir.Node, *names: str) -> bool:
    """Whether a node is one of these operators of ONNX's own domain."""
    return node.domain in ("", "ai.onnx") and node.op_type in names


def content_of(work: Workspace, value: ir.Value) -> NDArray[Any] | None:
    """What a small constant holds, in float64."""
    fact, found = work.facts.get(value), expression_behind(work, value)
    if fact.array is not None:
        return fact.array
    if isinstance(found, str) or (fact.size or 0) > _MOST_KNOTS or any(map(work.is_valueless, found.sources)):
        return None
    m = Float64()
    return m.concrete(found.value(m, lambda name: lift(m, np.asarray(work.sources[name].numpy()))))


def number_behind(work: Workspace, value: ir.Value) -> ir.Value:
    """The first of the values that differ in a last axis of one element, taken away and given back."""
    while (
        (node := value.producer()) is not None and is_plain(node, "Unsqueeze") and node.inputs[0] is not None
    ):
        taken = node.inputs[0].producer()
        if taken is None or not is_plain(taken, "Gather") or taken.inputs[0] is None:
            return value
        whole, shape = work.facts.get(taken.inputs[0]).shape, work.facts.get(value).shape
        if (
            whole != shape
            or not whole
            or whole[-1] != 1
            or work.facts.get(taken.outputs[0]).shape != whole[:-1]
        ):
            return value
        value = taken.inputs[0]
    return value


class Ranges:
    """Ranges of values.

    Args:
        work: the model.
        b: makes the nodes.
        leaf: what varies, and has one element along the last axis.
        wide: that element as often as a range is long, which whatever repeats it is, too.
        row: the last two sizes of what is computed.

    Attributes:
        knots: the ranges of constants that were made, each once.
    """

    def __init__(self, work: Workspace, b: Builder, leaf: ir.Value, wide: ir.Value, row: Shape) -> None:
        self._work, self._b, self._leaf, self._wide, self._row = work, b, leaf, wide, row
        self._made: dict[tuple[ir.Value, int, int], ir.Value] = {}
        self.knots: dict[tuple[Shape, bytes], ir.Value] = {}

    def of(self, value: ir.Value, start: int, stop: int) -> ir.Value:
        """A range of the last axis of a value, computed from ranges of constants."""
        key = (value, start, stop)
        if key not in self._made:
            self._made[key] = self._computed(value, start, stop)
        return self._made[key]

    def _computed(self, value: ir.Value, start: int, stop: int) -> ir.Value:
        node = value.producer()
        if number_behind(self._work, value) is self._leaf:
            return self._wide
        if self._work.facts.get(value).constant:
            return self._knot(value, start, stop)
        assert node is not None
        if (guard := guard_of(self._work, node)) is not None:
            return self.of(guard.value, start, stop)
        if node.op_type == "Slice":
            first = self._begin(node)
            assert node.inputs[0] is not None
            return self.of(node.inputs[0], start + first, stop + first)
        if node.op_type == "Expand":
            return self._wide
        if node.op_type == "Cast":
            return self._truth(node.inputs[0], start, stop)
        if node.op_type == "And":
            raise Stays(f"node '{label(node)}' (And) is read as it is")
        parts = [None if operand is None else self.of(operand, start, stop) for operand in node.inputs]
        return self._b.op(node.op_type, *parts, **call_of(node, self._work.version).attributes)

    def _knot(self, value: ir.Value, start: int, stop: int) -> ir.Value:
        """A range of a constant, one for each feature; of equal ones the first."""
        fact = self._work.facts.get(value)
        size = fact.shape[-1] if fact.shape else 1
        if fact.size == 1:
            return value
        array = content_of(self._work, value)
        if array is None:
            raise Stays(f"'{printable(value.name or '')}' is too large for knots")
        part = array[..., start:stop] if size > 1 else array
        key = (part.shape, part.tobytes())
        if key not in self.knots:
            cut = value
            if part.shape != array.shape:
                bounds = (self._b.constant(np.array([number], np.int64)) for number in (start, stop, -1))
                cut = self._b.op("Slice", value, *bounds)
            if part.shape[-2:] != self._row:
                cut = self._b.op("Expand", cut, self._b.constant(np.array(self._row, np.int64)))
            self.knots[key] = cut
        return self.knots[key]

    def _truth(self, value: ir.Value | None, start: int, stop: int) -> ir.Value:
        """1 where a condition holds, else 0."""
        made = None if value is None else value.producer()
        if value is None or self._work.facts.get(value).dtype != ir.DataType.BOOL or made is None:
            raise Stays("it converts numbers in between")
        if made.op_type == "Slice":
            first = self._begin(made)
            return self._truth(made.inputs[0], start + first, stop + first)
        one, zero = (self._b.scalar(number, ir.DataType.FLOAT) for number in (1.0, 0.0))
        if made.op_type != "And":
            return self._b.op("Where", self.of(value, start, stop), one, zero)
        one_of, other = made.inputs
        assert one_of is not None
        then = self._truth(other, start, stop)
        return self._b.op("Where", self.of(one_of, start, stop), then, zero)

    def _begin(self, node: ir.Node) -> int:
        """Where a slice of the last axis begins.

        Raises:
            Stays: it is another slice.
        """
        first = first_of(self._work, node)
        if isinstance(first, str):
            raise Stays(first)
        return first
