"""The boundary of a rowwise region: which values may be its operands, and which its results.

Condition: every operand goes with the result as it goes with what is computed from it, element by element or
broadcast along the same axes; every result is of the shape of the rows, or one number of each; and all have
one type. A kernel has so many operands and results at the most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from tautomer.passes.rowwise.nodes import MOVES, Sizes
from tautomer.passes.rowwise.reads import Read
from tautomer.passes.rowwise.region import MOST_OPERANDS, MOST_RESULTS, Region, work_of
from tautomer.passes.rowwise.shapes import Cut
from tautomer.patterns.rowwise.places import PLACED


@dataclass(frozen=True)
class Boundary:
    """What may cross the boundary of a region whose rows lie in one way.

    Args:
        sizes: shapes and types.
        cuts: the rows, for either choice of numbers.
        dtype: what its results are stored as.
    """

    sizes: Sizes
    cuts: tuple[Cut, Cut]
    dtype: ir.DataType

    def region(
        self,
        nodes: tuple[ir.Node, ...],
        inside: Mapping[ir.Node, list[Read]],
        refused: Mapping[ir.Node, str],
    ) -> Region | tuple[ir.Node, str]:
        """The region of some nodes; or the node that reads or gives what cannot cross its boundary, and why.

        Args:
            nodes: in topological order.
            inside: what each of them reads.
            refused: nodes that might have belonged to it, and why they do not.
        """
        cut = self.cuts[0]
        operands: dict[ir.Value, str] = {}
        numbers: dict[ir.Value, None] = {}
        segments = 0
        for node in nodes:
            for read in inside[node]:
                value, kind = read.value, read.kind
                if value.producer() in inside:
                    if not self._as_computed(read):
                        return node, f"'{value.name}' is broadcast along other axes than it is computed on"
                    continue
                if kind == "number" and self._is_number(value):
                    numbers[value] = None
                    continue
                obstacle = self._operand_obstacle(read)
                if not obstacle and operands.get(value, kind) != kind:
                    obstacle = f"'{value.name}' is read in two ways"
                if not obstacle and kind == "segment" and segments not in (0, read.segments):
                    obstacle = f"'{value.name}' cuts a row into other parts than another operand does"
                if not obstacle and len(operands) == MOST_OPERANDS and value not in operands:
                    obstacle = f"it has more than {MOST_OPERANDS} operands"
                if obstacle:
                    return node, obstacle
                operands[value] = kind
                segments = segments or read.segments
        x = next((value for value, kind in operands.items() if kind == "full"), None)
        if x is None:
            return nodes[-1], "nothing that it reads has the shape of what it gives"
        del operands[x]
        whole: list[ir.Value] = []
        per_row: list[ir.Value] = []
        for node in nodes:
            value = node.outputs[0]
            if node is nodes[-1] or value.is_graph_output() or any(u not in inside for u, _ in value.uses()):
                obstacle = self._result_obstacle(value)
                if not obstacle and node is not nodes[-1] and len(whole) + len(per_row) == MOST_RESULTS - 1:
                    obstacle = f"it has more than {MOST_RESULTS} results"
                if obstacle:
                    return node, obstacle
                (whole if self.sizes.fact(value).size == cut.size else per_row).append(value)
        return Region(
            cut,
            nodes,
            inside,
            ((x, "full"), *operands.items()),
            tuple(numbers),
            max(segments, 1),
            tuple(whole),
            tuple(per_row),
            self._moved(nodes, inside),
            dict(refused),
        )

    def _result_obstacle(self, value: ir.Value) -> str:
        """Why a value cannot be a result, or ""."""
        own = self.sizes.fact(value).dtype
        if own != self.dtype:
            return f"'{value.name}' is {own.name if own else 'of an unknown type'}, and read elsewhere"
        for cut, shape in zip(self.cuts, self.sizes.shapes(value), strict=True):
            rows = cut.shape[: -cut.layout.axes]
            per_row = (rows, rows + (1,) * cut.layout.axes)
            if shape != cut.shape and (cut.layout.grouped or shape not in per_row):
                return f"'{value.name}' has other axes than the rows that it is reduced to"
        return ""

    def _moved(self, nodes: Sequence[ir.Node], reads: Mapping[ir.Node, list[Read]]) -> int:
        """Tensors of full size that are read and written when every node runs for itself."""
        size = self.cuts[0].size
        total = 0
        for node in nodes:
            full = {read.value for read in reads[node] if read.kind in ("full", "truth")}
            writes = self.sizes.fact(node.outputs[0]).size == size
            if node.op_type not in MOVES:
                total += len(full) * work_of(node) + writes
            total += node.op_type == "Expand"
        return total

    def _as_computed(self, read: Read) -> bool:
        """Whether a value of the region is read element by element, or number by number of the rows."""
        if self.sizes.fact(read.value).size == self.cuts[0].size:
            return read.kind in ("full", "truth")
        of_each = tuple((1, cut.rows) for cut in self.cuts)
        return read.kind == "number" or (read.kind in ("column", "truth") and read.places == of_each)

    def _operand_obstacle(self, read: Read) -> str:
        """Why a value from outside cannot be an operand, or ""."""
        value, kind = read.value, read.kind
        name, own = value.name, self.sizes.fact(value).dtype
        if kind == "truth":
            return f"the condition '{name}' comes from outside"
        if own != self.dtype:
            return (
                f"'{name}' is {own.name if own else 'of an unknown type'}, and the result {self.dtype.name}"
            )
        shapes = self.sizes.shapes(value)
        for cut, shape, place in zip(self.cuts, shapes, read.places or ((1, 1), (1, 1)), strict=True):
            if len(shape) > len(cut.shape):
                return f"'{name}' has more axes than the result"
            if kind == "full" and shape != cut.shape:
                return f"'{name}' has another shape than the result"
            alike = True
            if cut.layout.grouped and kind == "column":
                alike = place in ((1, cut.rows), (1, cut.groups))
            elif kind in ("row", *PLACED):
                way = cut.way(shape, cut.shape)
                alike = (way.kind, way.place) == (kind, place)
            if not alike:
                return f"'{name}' does not go with the result as it goes with what is computed from it"
        return ""

    def _is_number(self, value: ir.Value) -> bool:
        fact = self.sizes.fact(value)
        return fact.array is not None and fact.array.size == 1 and fact.constant
