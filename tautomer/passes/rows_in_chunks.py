"""rows in chunks: a product that is much larger than what becomes of it is made some rows at a time.

    f(x W + b)[i] = f(x[i] W + b),  f of rows, whose results are small

    for each chunk of rows:  r = concat(r, f(x[chunk] W + b))

So memory is that of a chunk, and a chunk's logits are still in a cache when they are read. This is what heads
of large vocabularies are for: log-probabilities of given tokens, cross-entropy, sums over a row. Condition:
nothing but f reads the product, f is known to treat rows alike, and the product has many elements; where the
number of rows is open, its matrix has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.naming import label
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_reader
from tautomer.passes.movement.row_steps import LOSSES, Step, step_of
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark
from tautomer.target import Target

_LEAST_MATRIX = 1 << 22  # elements: a loop over one chunk takes some microseconds, a hundredth of its product
_CHUNKS = 2  # of the smallest product: 2^23 logits each took no longer than 2^24, and 2^22 a tenth more
_SMALL = 8  # times smaller than the product is what may be kept of it
_OF_EVIDENCE = 2  # rows of a chunk there: a few rows are then several chunks
_ENDS = ("LogSoftmax", "Softmax", *LOSSES)  # where somebody may wonder why the logits are still made


@dataclass(frozen=True)
class RowsInChunks:
    """Rewrites products in the main graph.

    Attributes:
        target: from how many elements on it gains there, if at all.
    """

    name: ClassVar[str] = "rows in chunks"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each large product behind which rows are reduced."""
        least = self.target.chunked_from
        if least is None:
            return []
        remarks = []
        for node in [one for one in work.model.graph if one.op_type in ("MatMul", "Gemm") and not one.domain]:
            reader = linear_reader(work, node)
            if isinstance(reader, str) or not _is_large(work, reader, least):
                continue
            head = _Head(work, reader)
            reason, size = head.obstacle(), work.facts.get(reader.output).size or 0
            if not reason:
                columns = (work.facts.get(reader.output).shape or (1,))[-1]
                reason = head.rewrite(max(1, least // _CHUNKS // columns))
            if not reason:
                done = f"its rows are made in chunks, and never all of them (here {size} elements)"
                remarks.append(Remark("passed", self.name, node.op_type, label(node), done))
            elif head.ends:
                remarks.append(Remark("missed", self.name, node.op_type, label(node), reason))
        return remarks


def _is_large(work: Workspace, reader: LinearReader, least: int) -> bool:
    y, weight = work.facts.get(reader.output), work.facts.get(reader.weight)
    if y.shape is None or y.size is None or weight.shape is None or not y.shape[:-1]:
        return False
    return y.size >= least if y.static else prod(weight.shape) >= _LEAST_MATRIX and y.shape[-1] <= least


def _stored(value: ir.Value) -> ir.Value:
    """The stored constant that a constant is made from, and which has its shape; else itself."""
    waiting, shape = [value], value.shape
    for one in waiting:
        if one.const_value is not None and (one is value or shape is None or one.shape == shape):
            return one
        made = one.producer()
        waiting += [x for x in (() if made is None else made.inputs) if x is not None]
    return value


@dataclass
class _Head:
    """A product, and what is computed from its rows.

    Attributes:
        steps: of the nodes that read its rows, in the graph's order.
        ends: whether a softmax or a loss is among them.
    """

    work: Workspace
    reader: LinearReader
    steps: dict[ir.Node, Step] = field(default_factory=dict)
    ends: bool = False
    _slices: list[ir.Node] = field(default_factory=list)

    def obstacle(self) -> str:
        """Why the rows have to be whole, or ""; finds the steps."""
        work, rows = self.work, self._sliced(self.reader.output)
        least = (work.facts.get(rows).size or 0) // _SMALL
        inside: dict[ir.Value, None] = {rows: None}
        large, computed = {rows: None}, dict[ir.Value, None]()
        reason = ""
        for node in self.work.model.graph:
            if not any(value in inside or value in computed for value in node.inputs):
                continue
            step = step_of(work, node, inside)
            must = any(value in large for value in node.inputs)
            self.ends = self.ends or node.op_type in _ENDS
            if not isinstance(step, str) and any(value in computed for value in (*step.rows, *node.inputs)):
                step = f"node '{label(node)}' ({node.op_type}) reads what is computed from all rows"
            if isinstance(step, str):
                reason = reason or (step if must else "")
                computed.update(dict.fromkeys(node.outputs))
                continue
            self.steps[node] = step
            size = work.facts.get(node.outputs[0]).size
            (computed if step.finish else inside)[node.outputs[0]] = None
            if not step.finish and (size is None or size > least):
                large[node.outputs[0]] = None
        for value in large:
            if value.is_graph_output():
                reason = reason or f"'{value.name}' is an output of the model"
            if any(user.graph is not work.model.graph for user, _ in value.uses()):
                reason = reason or f"'{value.name}' is read inside a sub-graph"
        self._keep_needed(large)
        if not reason and not self._results(large):
            reason = "nothing small is computed from its rows"
        self._large = large
        return reason

    def _sliced(self, rows: ir.Value) -> ir.Value:
        """The rows that are read, behind slices of them, which are as well taken of x."""
        work, x = self.work, self.reader.node.inputs[0]
        rank = len(work.facts.get(x).shape or ())
        while len(rows.uses()) == 1 and not rows.is_graph_output():
            ((node, slot),) = rows.uses()
            axes = work.facts.get(node.inputs[3]).array if len(node.inputs) > 3 else None
            last = axes is None or any(int(axis) % rank == rank - 1 for axis in axes.reshape(-1))
            if node.op_type != "Slice" or slot or last or node.graph is not work.model.graph:
                break
            self._slices.append(node)
            rows = node.outputs[0]
        return rows

    def _keep_needed(self, large: dict[ir.Value, None]) -> None:
        """Leaves out steps that no step that reads a large tensor needs."""
        needed: dict[ir.Node, None] = {}
        for node in reversed(list(self.steps)):
            feeds = any(user in needed for user, _ in node.outputs[0].uses())
            if feeds or any(value in large for value in node.inputs):
                needed[node] = None
        self.steps = {node: step for node, step in self.steps.items() if node in needed}

    def _results(self, large: dict[ir.Value, None]) -> list[ir.Node]:
        """The nodes whose results somebody else reads."""
        return [
            node
            for node in self.steps
            if node.outputs[0] not in large
            and (
                node.outputs[0].is_graph_output()
                or any(user not in self.steps for user, _ in node.outputs[0].uses())
            )
        ]

    def rewrite(self, step: int) -> str:
        """Puts a loop in the place of the product; the reason why not, or "".

        Args:
            step: how many rows it makes at a time.
        """
        work, results = self.work, self._results(self._large)
        for rows in (_OF_EVIDENCE, step):
            loop = _Loop(work, self.reader, self.steps, self._slices)
            stacked = loop.stacked(results, rows)
            new = [loop.finished(node, value) for node, value in zip(results, stacked, strict=True)]
            if any(value is None for value in new):
                loop.discard()
                return "the shape of what is computed from its rows is not known"
            if rows == step:
                break
            for node, value in zip(results, new, strict=True):
                assert value is not None
                leaves = work.leaves(loop.reads())
                weights = {x: _stored(x) for x in (self.reader.weight, self.reader.bias) if x is not None}
                key = RowsInChunks.name, *self._key(), label(node)
                # a row is treated alike by both, but for the order in which its product is summed
                old, read = node.outputs[0], {**leaves, **weights}
                reason = work.evidence.refuses(key, old, value, read, linear=True)
                if reason:
                    loop.discard()
                    return reason
            loop.discard()
        last = list(self.steps)[-1]
        loop.place(last)
        for node, value in zip(results, new, strict=True):
            assert value is not None
            work.supersede(node.outputs[0], value)
        gone = [self.reader.node, *self._slices, *self.steps]
        if self.reader.adder is not None and self.reader.adder[0] is not self.reader.node:
            gone.insert(1, self.reader.adder[0])
        remove_dead(reversed(gone))
        if len(results) > 1:
            work.model.graph.sort()
        work.catch_up()
        return ""

    def _key(self) -> tuple[object, ...]:
        facts = self.work.facts
        nodes = (self.reader.node, *self._slices, *self.steps)
        return tuple((node.op_type, facts.get(node.outputs[0]).shape) for node in nodes)


class _Loop:
    """The nodes of one loop over chunks of rows."""

    def __init__(
        self, work: Workspace, reader: LinearReader, steps: dict[ir.Node, Step], slices: Sequence[ir.Node]
    ) -> None:
        self.work, self.reader, self.steps, self._slices = work, reader, steps, slices
        assert isinstance(reader.node.graph, ir.Graph)
        self.b, self._inner = work.builder(reader.node.graph), work.builder(reader.node.graph)
        self._whole: dict[ir.Value, ir.Value] = {}

    def whole(self, value: ir.Value) -> ir.Value:
        """A tensor with one entry per row as a matrix of all rows."""
        if value not in self._whole:
            shape = self.work.facts.get(value).shape or ()
            width = next(step.rows[value] for step in self.steps.values() if value in step.rows)
            flat = len(shape) == 2 and shape[-1] == width
            self._whole[value] = (
                value if flat else self.b.op("Reshape", value, self.b.constant(np.array([-1, width])))
            )
        return self._whole[value]

    def stacked(self, results: Sequence[ir.Node], step: int) -> list[ir.Value]:
        """Writes the loop; the results of all rows, as matrices."""
        b, inner, work = self.b, self._inner, self.work
        x = self.reader.node.inputs[0]
        assert x is not None
        shape = work.facts.get(x).shape or ()
        for node in self._slices:
            x = b.op("Slice", x, *node.inputs[1:])
        self._x = x
        x = x if len(shape) == 2 else b.op("Reshape", x, b.constant(np.array([-1, shape[-1]])))
        rows = b.op("Gather", b.op("Shape", x), b.constant(np.array(0)))
        most = b.op("Add", rows, b.constant(np.array(step - 1)))
        count = b.op("Div", most, b.constant(np.array(step)))
        counter, going = (
            ir.Value(name=work.names.fresh(f"tautomer/{name}"), type=ir.TensorType(kind), shape=ir.Shape([]))
            for name, kind in (("counter", ir.DataType.INT64), ("going", ir.DataType.BOOL))
        )
        length = b.constant(np.array([step]))
        start = inner.op("Mul", counter, length)
        end = inner.op("Add", start, length)
        chunks: dict[ir.Value, ir.Value] = {}

        def chunk(value: ir.Value) -> ir.Value:
            if value not in chunks:
                zero = inner.constant(np.array([0]))
                chunks[value] = inner.op("Slice", self.whole(value), start, end, zero)
            return chunks[value]

        chunks[x] = inner.op("Slice", x, start, end, inner.constant(np.array([0])))
        chunks[self._rows()] = self._product(inner, chunks[x])
        for node, one in self.steps.items():
            chunks[node.outputs[0]] = one.write(inner, chunk)
        carried, first, joined = [], [], []
        for node in results:
            fact = work.facts.get(node.outputs[0])
            width = self._width(node)
            assert fact.dtype is not None
            first.append(b.constant(np.zeros((0, width), fact.dtype.numpy())))
            kind, name = ir.TensorType(fact.dtype), work.names.fresh("tautomer/rows")
            carried.append(ir.Value(name=name, type=kind, shape=ir.Shape([None, width])))
            joined.append(inner.op("Concat", carried[-1], chunks[node.outputs[0]], axis=0))
        on = inner.op("Identity", going)
        body = ir.Graph(
            [counter, going, *carried],
            [on, *joined],
            nodes=inner.nodes,
            name=work.names.fresh("tautomer/body"),
        )
        on.type = ir.TensorType(ir.DataType.BOOL)
        for value, like in zip(joined, carried, strict=True):
            value.type, value.shape = like.type, like.shape
        always = b.constant(np.array(True))
        return b.several("Loop", len(results), count, always, *first, body=body)

    def _rows(self) -> ir.Value:
        """The value that the first steps read."""
        return self._slices[-1].outputs[0] if self._slices else self.reader.output

    def _width(self, node: ir.Node) -> int:
        """How many numbers a row of a result has."""
        shape = self.work.facts.get(node.outputs[0]).shape or ()
        return shape[-1] if node.op_type == "GatherElements" or self._is_kept(node) else 1

    def _is_kept(self, node: ir.Node) -> bool:
        return node.op_type not in LOSSES and bool(node.attributes.get_int("keepdims", 1))

    def _product(self, inner: Builder, x: ir.Value) -> ir.Value:
        """x W + b for the rows of a chunk."""
        node, work = self.reader.node, self.work
        attributes = dict(call_of(node, work.version).attributes)
        y = inner.op(node.op_type, x, *node.inputs[1:], **attributes)
        if self.reader.adder is None or self.reader.adder[0] is node:
            return y
        return inner.op("Add", y, self.reader.bias)

    def finished(self, node: ir.Node, rows: ir.Value) -> ir.Value | None:
        """The result of a node, of the matrix that has its rows; None where its shape is not known."""
        finish = self.steps[node].finish
        if finish is not None:
            return finish(self.b, rows, self.whole)
        facts, elsewhere = self.work.facts.get(node.outputs[0]), self.work.recognition.elsewhere()
        shape, there = facts.shape, elsewhere.get(self.work.origin(node.outputs[0])).shape
        if shape is None or there is None:
            return None
        width = self._width(node)
        if len(shape) == 2 and shape[-1] == width:
            return rows
        open_sizes = [i for i, (a, c) in enumerate(zip(shape, there, strict=True)) if a != c]
        if len(open_sizes) <= 1:
            sizes = [-1 if i in open_sizes else size for i, size in enumerate(shape)]
            return self.b.op("Reshape", rows, self.b.constant(np.array(sizes)))
        of_x = self.work.facts.get(self._rows()).shape or ()
        if shape[: len(of_x) - 1] != of_x[:-1]:
            return None
        first, last = (self.b.constant(np.array([i])) for i in (0, -1))
        leading = self.b.op("Slice", self.b.op("Shape", self._x), first, last)
        kept = len(shape) == len(of_x)
        if kept:
            leading = self.b.op("Concat", leading, self.b.constant(np.array([width])), axis=0)
        return self.b.op("Reshape", rows, leading)

    def reads(self) -> list[ir.Value]:
        """What the loop reads that varies."""
        x = self.reader.node.inputs[0]
        rows = [value for step in self.steps.values() for value in step.rows]
        return [value for value in (x, *rows) if value is not None]

    def place(self, before: ir.Node) -> None:
        """Puts it into the graph."""
        self._inner.commit()
        self.work.place(self.b, before)

    def discard(self) -> None:
        """Takes its nodes back."""
        self.b.discard()
        self._inner.discard()
