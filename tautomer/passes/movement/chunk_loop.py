"""A product and what is computed from its rows as an ONNX Loop, which makes some rows at a time.

    for i = 0 ... ceil(n / c) - 1:  r = concat(r, f(x[i c : (i + 1) c] W + b))   =   f(x W + b)

n rows, c of them in a chunk; the last chunk has what is left. Condition: f treats rows alike, by the steps of
which it consists. What comes behind all rows, a sum or the shape of the result, is written behind the loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.passes.linear_maps.linear_readers import LinearReader
from tautomer.passes.movement.row_steps import LOSSES, Step
from tautomer.passes.workspace import Workspace


class ChunkLoop:
    """The nodes of one loop over chunks of rows; they are in the graph only once they are placed.

    Args:
        work: the model.
        reader: the product.
        steps: what each node that reads its rows does with a chunk of them, in the graph's order.
        slices: of the product's rows, between it and the steps, the first one first; taken of x instead.
    """

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
        """Writes the loop; the results of all rows, as matrices.

        Args:
            results: the nodes whose results are read behind the loop.
            step: how many rows a chunk has.
        """
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
