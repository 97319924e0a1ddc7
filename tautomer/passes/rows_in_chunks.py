"""rows in chunks: a product that is much larger than what becomes of it is made some rows at a time.

    f(x W + b)[i] = f(x[i] W + b),  f of rows, whose results are small

    for each chunk of rows:  r = concat(r, f(x[chunk] W + b))

So memory is that of a chunk, and a chunk's logits are still in a cache when they are read. This is what heads
of large vocabularies are for: log-probabilities of given tokens, cross-entropy, sums over a row. Condition:
nothing but f reads the product, f is known to treat rows alike, and the product has many elements; where the
number of rows is open, its matrix has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.dead_code import remove_dead
from tautomer.graph.naming import label
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_reader
from tautomer.passes.movement.chunk_loop import ChunkLoop
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
            loop = ChunkLoop(work, self.reader, self.steps, self._slices)
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
