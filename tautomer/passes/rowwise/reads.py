"""What a node of a rowwise region reads, and how that goes with what it computes.

Every node computes a tensor of full size or one number per row, from such tensors and from others that go
with them as the operand of a kernel does. Condition: it works on the rows of the region, and on no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.semantics.reductions import axes_of
from tautomer.passes.rowwise.nodes import CHANNELS, MOVES, POINTWISE, Sizes, Unfit, stands_for
from tautomer.passes.rowwise.shapes import Cut, Way
from tautomer.patterns.operation import Definition
from tautomer.patterns.rowwise.places import PLACED, Place, spread
from tautomer.patterns.rowwise.vocabulary import REDUCTIONS, small_power

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_BOTH = (0, 1)


@dataclass(frozen=True)
class Read:
    """What a node reads.

    Attributes:
        value: the tensor.
        kind: how it goes with what is computed, see `patterns.rowwise`; "truth" for a condition.
        segments: of a segment, how many a row has.
        places: period and count of a column or a block, for either choice of numbers.
    """

    value: ir.Value
    kind: str
    segments: int = 0
    places: tuple[Place, ...] = ()


def reads(node: ir.Node, cuts: tuple[Cut, Cut], sizes: Sizes, version: int, dtype: ir.DataType) -> list[Read]:
    """What a node reads, for rows that lie like this.

    Args:
        node: one that may stand in a region.
        cuts: the rows, for either choice of numbers.
        sizes: shapes and types.
        version: the opset.
        dtype: what the region's result is stored as.

    Raises:
        Unfit: it cannot stand in a region with such rows.
    """
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise Unfit("it has a second output that is read")
    return _Reading(node, cuts, sizes, version).reads(dtype)


class _Reading:
    def __init__(self, node: ir.Node, cuts: tuple[Cut, Cut], sizes: Sizes, version: int) -> None:
        self.node, self.cuts, self.sizes = node, cuts, sizes
        self.call = call_of(node, version)
        self.given = [value for value in node.inputs if value is not None]
        self.out = sizes.shapes(node.outputs[0])

    def reads(self, dtype: ir.DataType) -> list[Read]:
        self._types(dtype)
        op = self.node.op_type
        plain = self.node.domain in ("", "ai.onnx")
        if plain and op in MOVES:
            return [self._moved()]
        if plain and op in CHANNELS:
            return self._channels()
        if plain and op in REDUCTIONS:
            return [self._reduced()]
        definition = None if plain and op in POINTWISE else stands_for(self.call)
        if definition is not None and definition.rows:
            return self._rows(definition)
        if plain and op == "Pow":
            exponent = self.sizes.fact(self.given[1]).array
            if exponent is None or exponent.size != 1 or not small_power(float(exponent.reshape(()))):
                raise Unfit("its exponent is not a small whole number")
        return [self._broadcast(value) for value in self.given]

    def _types(self, dtype: ir.DataType) -> None:
        own = self.sizes.fact(self.node.outputs[0]).dtype
        allowed = {dtype, ir.DataType.BOOL} | ({ir.DataType.FLOAT} if dtype in _NARROW else set())
        if own not in allowed:
            raise Unfit(f"it gives {own.name if own else 'an unknown type'}, and the result is {dtype.name}")
        same = own == self.sizes.fact(self.given[0]).dtype
        if self.node.op_type == "Cast" and own != ir.DataType.FLOAT and not same:
            raise Unfit(f"it rounds to {own.name if own else 'another type'} in between")

    def _full(self, value: ir.Value) -> bool:
        shapes = self.sizes.shapes(value)
        return all(prod(shapes[i]) == self.cuts[i].size for i in _BOTH)

    def _per_row(self, value: ir.Value) -> bool:
        shapes = self.sizes.shapes(value)
        return all(prod(shapes[i]) == self.cuts[i].rows for i in _BOTH)

    def _moved(self) -> Read:
        value, result = self.given[0], self.node.outputs[0]
        if self._full(value) and self._full(result):
            return Read(value, "full")
        if self._per_row(value):
            of_each = tuple((1, cut.rows) for cut in self.cuts)
            if self._per_row(result):
                return Read(value, "column", places=of_each)
            there = self.sizes.shapes(value)
            if self.node.op_type == "Expand" and all(
                spread(there[i], self.out[i]) == (self.cuts[i].columns, self.cuts[i].rows) for i in _BOTH
            ):
                return Read(value, "column", places=of_each)
        raise Unfit("it moves elements across rows")

    def _reduced(self) -> Read:
        value = self.given[0]
        shapes = self.sizes.shapes(value)
        self._over(value, [tuple(self._axes(shape)) for shape in shapes])
        return Read(value, "full")

    def _axes(self, shape: Shape) -> Sequence[int]:
        axes = None
        if len(self.given) > 1:
            array = self.sizes.fact(self.given[1]).array
            if array is None:
                raise Unfit("its axes are not known")
            axes = [int(axis) for axis in array.reshape(-1)]
        return axes_of(self.call, axes, len(shape))

    def _over(self, value: ir.Value, axes: Sequence[tuple[int, ...]]) -> None:
        shapes = self.sizes.shapes(value)
        for i in _BOTH:
            shape, cut = shapes[i], self.cuts[i]
            first = min(axes[i], default=len(shape))
            if tuple(axes[i]) != tuple(range(first, len(shape))):
                named_axes = ", ".join(map(str, axes[i]))
                reason = f"it reduces axes {named_axes} of {len(shape)}, which are not the last ones"
                raise Unfit(reason, inner_axes=True)
            if prod(shape) != cut.size or prod(shape[first:]) != cut.columns:
                raise Unfit("it reduces over other rows than the rest")

    def _rows(self, definition: Definition) -> list[Read]:
        x = self.given[0]
        shapes = self.sizes.shapes(x)
        axis = int(self.call.get("axis", -1))
        flat = definition.op in ("Softmax", "LogSoftmax") and 0 < self.call.version < 13
        if flat and self.call.get("axis") != -1:
            raise Unfit("its rows are flattened")
        over = [
            (axis % len(shape),) if definition.rows == "axis" else tuple(range(axis % len(shape), len(shape)))
            for shape in shapes
        ]
        self._over(x, over)
        found = [Read(x, "full")]
        for name, value in zip(definition.operands, self.given[1:], strict=False):
            read = self._broadcast(value)
            if read.kind not in (definition.kind(name), "number"):
                raise Unfit(f"'{value.name}' does not have the shape of a row")
            found.append(read)
        return found

    def _broadcast(self, value: ir.Value) -> Read:
        """How a value goes with the result of a pointwise operation that reads it."""
        value = self._repeated(value)
        fact = self.sizes.fact(value)
        if fact.dtype is not None and fact.dtype.is_integer():
            raise Unfit(f"it reads '{value.name}', which is of integers")
        shapes = self.sizes.shapes(value)
        if all(prod(self.out[i]) == self.cuts[i].size for i in _BOTH):
            ways = [self.cuts[i].way(shapes[i], self.out[i]) for i in _BOTH]
        elif all(prod(self.out[i]) == self.cuts[i].rows for i in _BOTH):
            ways = [_beside_rows(shapes[i], self.out[i]) for i in _BOTH]
        else:
            raise Unfit("it computes a tensor of another size")
        read = self._agreed(value, ways)
        if fact.dtype == ir.DataType.BOOL:
            if read.kind not in ("full", "column"):
                raise Unfit(f"the condition '{value.name}' is broadcast")
            return replace(read, kind="truth")
        return read

    @staticmethod
    def _agreed(value: ir.Value, ways: Sequence[Way]) -> Read:
        """How a value goes with a result, if it does so alike for either choice of numbers."""
        a, b = ways
        if not a.kind or (a.kind, a.segments) != (b.kind, b.segments):
            raise Unfit(f"'{value.name}' is broadcast as no operand of a kernel is")
        return Read(value, a.kind, a.segments, (a.place, b.place) if a.kind in PLACED else ())

    def _repeated(self, value: ir.Value) -> ir.Value:
        """The tensor of which a value holds copies: a number, as of a gain of ones, or rows, as of a mask."""
        made = value.producer()
        if made is None or made.op_type != "Expand" or made.inputs[0] is None:
            return value
        fact = self.sizes.fact(made.inputs[0])
        if fact.constant and fact.size == 1:
            return made.inputs[0]
        here = self.cuts[0].way(fact.shape or (), self.out[0]).kind
        return made.inputs[0] if here in ("row", "block") else value

    def _channels(self) -> list[Read]:
        """x, and one number for each channel: the second axis."""
        x, *rest = self.given
        shapes = self.sizes.shapes(x)
        call = self.call
        if call.op_type == "BatchNormalization" and (
            call.get("training_mode", 0) or 0 < call.version < 9 or call.outputs > 1
        ):
            raise Unfit("it computes its statistics anew")
        if call.op_type == "GroupNormalization" and 0 < call.version < 21:
            raise Unfit("its gains are those of groups")
        if call.op_type == "InstanceNormalization":
            if not self.cuts[0].layout.grouped:
                raise Unfit("its rows are those of groups")
            self._over(x, [tuple(range(2, len(shape))) for shape in shapes])
        if call.op_type == "GroupNormalization":
            for i in _BOTH:
                if not self.cuts[i].layout.grouped or self.cuts[i].groups != call.get("num_groups"):
                    raise Unfit("it has other groups than the rest")
        found = [Read(x, "full")]
        for value in rest:
            ones = tuple((1,) * (len(shape) - 2) for shape in shapes)
            per = self.sizes.shapes(value)
            read = self._agreed(value, [self.cuts[i].way(per[i] + ones[i], shapes[i]) for i in _BOTH])
            if call.op_type == "InstanceNormalization" and read.kind != "column":
                raise Unfit(f"'{value.name}' is broadcast as no operand of a kernel is")
            found.append(read)
        return found


def _beside_rows(shape: Shape, onto: Shape) -> Way:
    """How a tensor goes with one of one number per row."""
    found = spread(shape, onto)
    if found is None:
        return Way()
    return Way("number") if found[1] == 1 else Way("column", place=found)
