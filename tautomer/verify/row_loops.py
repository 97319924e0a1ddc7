"""Loops over chunks of rows: what one computes, when its counter only says which rows come next.

    for i = 0, 1, ...:  r = concat(r, g(x[i c : (i + 1) c]))   =   g(x),   where g treats rows alike

Whether g does is for the reader of the body to say; here is only found that the body has this form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.facts import Facts
from tautomer.verify.control_flow import bodies_of


@dataclass(frozen=True)
class RowLoop:
    """A loop of this form.

    Attributes:
        trips: how many chunks there are.
        length: how many rows a chunk has, the last one perhaps fewer.
        chunks: the slices of its body, each with what it is a slice of.
        nodes: those of g, in order.
        results: for each output of the loop, the rows that a chunk adds to it.
    """

    trips: ir.Value | None
    length: int
    chunks: dict[ir.Value, ir.Value]
    nodes: tuple[ir.Node, ...]
    results: tuple[ir.Value, ...]

    def covers(self, facts: Facts) -> bool:
        """Whether the chunks are known to be all rows, and no more of them than that takes."""
        trips = None if self.trips is None else facts.get(self.trips).array
        shapes = [facts.get(x).shape for x in self.chunks.values()]
        if trips is None or trips.size != 1 or self.length < 1:
            return False
        return all(shape and -(-shape[0] // self.length) == trips.item() for shape in shapes)


def row_loop(node: ir.Node) -> RowLoop | None:
    """What a Loop does to rows; None where it is no Loop, or one of another form."""
    if node.op_type != "Loop" or node.domain not in ("", "ai.onnx"):
        return None
    ((_, body),) = bodies_of(node)
    counter, going, *carried = body.inputs
    start, end, length = _bounds(counter)
    on = body.outputs[0].producer()
    same = body.outputs[0] is going or (on is not None and on.op_type == "Identity" and on.inputs[0] is going)
    if start is None or end is None or not same:
        return None
    chunks: dict[ir.Value, ir.Value] = {}
    rest: list[ir.Node] = []
    joins = [value.producer() for value in body.outputs[1:]]
    for one in body:
        if one in (start.producer(), end.producer(), on) or one in joins:
            continue
        if start not in one.inputs and end not in one.inputs:
            rest.append(one)
        elif _takes_rows(one, start, end, body):
            assert one.inputs[0] is not None
            chunks[one.outputs[0]] = one.inputs[0]
        else:
            return None
    results = []
    for join, before in zip(joins, carried, strict=True):
        along = None if join is None else join.attributes.get_int("axis", None)
        if join is None or join.op_type != "Concat" or along != 0 or len(before.uses()) != 1:
            return None
        first, rows = join.inputs if len(join.inputs) == 2 else (None, None)
        if first is not before or rows is None:
            return None
        results.append(rows)
    return RowLoop(node.inputs[0], length, chunks, tuple(rest), tuple(results))


def read_around(node: ir.Node) -> Iterator[ir.Value]:
    """What the bodies of a node read of the graphs around them."""
    for _, body in bodies_of(node):
        own = {*body.inputs, *(value for one in body for value in one.outputs)}
        for one in body:
            for value in (*one.inputs, *read_around(one)):
                if value is not None and value not in own:
                    yield value


def _bounds(counter: ir.Value) -> tuple[ir.Value | None, ir.Value | None, int]:
    """counter * c, that + c, and c, if nothing else is made of the counter."""
    none = None, None, 0
    uses = list(counter.uses())
    if len(uses) != 1 or uses[0][0].op_type != "Mul":
        return none
    product = uses[0][0]
    length, start = product.inputs[1 - uses[0][1]], product.outputs[0]
    if length is None or length.const_value is None or length.const_value.size != 1:
        return none
    ends = [user for user, _ in start.uses() if user.op_type == "Add"]
    if len(ends) != 1 or [*ends[0].inputs].count(length) != 1:
        return none
    return start, ends[0].outputs[0], int(length.const_value.numpy().item())


def _takes_rows(node: ir.Node, start: ir.Value, end: ir.Value, body: ir.Graph) -> bool:
    """Whether a node is x[start : end] along the first axis, of an x from around the body."""
    if node.op_type != "Slice" or len(node.inputs) != 4:
        return False
    x, *bounds, axes = node.inputs
    if x is None or axes is None or axes.const_value is None or list(bounds) != [start, end]:
        return False
    inside = x in body.inputs or ((made := x.producer()) is not None and made.graph is body)
    return not inside and not np.any(axes.const_value.numpy())
