"""Rowwise regions: parts of a graph that one pass over rows could compute.

A region is grown from the value that it gives, backwards, by every node whose results are read by it alone,
or by others that come behind it. These are results too, and no path leaves the region and comes back. What
does not fit, and what is read elsewhere before, is an operand, computed outside as before. Results are of the
shape of what is read, or one number per row.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from tautomer.passes.rowwise.cuts import folding_cuts, whole_cuts
from tautomer.passes.rowwise.nodes import MOVES, Read, Sizes, Unfit, may_stand, reads
from tautomer.passes.rowwise.shapes import Cut
from tautomer.passes.runtime_fusions import SLOW_REDUCTIONS
from tautomer.patterns.rowwise.places import PLACED
from tautomer.patterns.rowwise.reading import REDUCTIONS

MOST_NODES = 64  # of a kernel: what the compiler still keeps in registers, mostly
MOST_OPERANDS = 16
MOST_RESULTS = 4
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Region:
    """A part of a graph.

    Attributes:
        cut: where its rows lie.
        nodes: in topological order; the last one gives a result.
        reads: what each of them reads.
        operands: tensors from outside and their kinds, x first.
        numbers: constants of one number, in order of first use.
        segments: how many parts a row has.
        whole: the results of full size.
        per_row: those of one number per row.
        moved: how many tensors of full size are read and written when every node runs for itself.
        refused: nodes that might have belonged to it, and why they do not.
    """

    cut: Cut
    nodes: tuple[ir.Node, ...]
    reads: Mapping[ir.Node, list[Read]]
    operands: tuple[tuple[ir.Value, str], ...]
    numbers: tuple[ir.Value, ...]
    segments: int
    whole: tuple[ir.Value, ...]
    per_row: tuple[ir.Value, ...]
    moved: int
    refused: Mapping[ir.Node, str]

    @property
    def results(self) -> tuple[ir.Value, ...]:
        """The values that it gives, in the order of the operator's."""
        return self.whole + self.per_row

    @property
    def computing(self) -> tuple[ir.Node, ...]:
        """The nodes that do more than rename or move."""
        return tuple(node for node in self.nodes if node.op_type not in MOVES)

    @property
    def work(self) -> int:
        """How many operations it is, as the runtime does them: a slow reduction counts twice."""
        return sum(map(_work, self.nodes))

    @property
    def reduces(self) -> bool:
        """Whether it does anything with a row as a whole."""
        rows = {"LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax", "InstanceNormalization"}
        names = rows | {"GroupNormalization"} | REDUCTIONS.keys()
        return any(node.op_type in names for node in self.nodes)

    @property
    def least_moved(self) -> int:
        """How many of them one operator has to read and write."""
        return sum(kind == "full" for _, kind in self.operands) + len(self.whole)


@dataclass
class Regions:
    """Finds the regions of a graph.

    Args:
        nodes: of the graph, in topological order.
        sizes: shapes and types.
        version: the opset.
        excluded: nodes that must stay as they are, and why.
    """

    nodes: list[ir.Node]
    sizes: Sizes
    version: int
    excluded: Mapping[ir.Node, str]
    _position: dict[ir.Node, int] = field(init=False)
    _candidates: set[ir.Node] = field(init=False)

    def __post_init__(self) -> None:
        self._position = {node: index for index, node in enumerate(self.nodes)}
        # only asked whether it has a node, never gone through
        self._candidates = {
            node for node in self.nodes if node not in self.excluded and may_stand(node, self.version)
        }

    def take(self, nodes: tuple[ir.Node, ...]) -> None:
        """Says that nodes belong to a region now."""
        self._candidates.difference_update(nodes)

    def roots(self) -> Iterator[ir.Node]:
        """Nodes that a region might end with, the last first, without those that were taken meanwhile."""
        for node in reversed(self.nodes):
            if node in self._candidates and node.op_type not in MOVES:
                yield node

    def best(self, root: ir.Node) -> Region | str:
        """The region that ends with a node and saves most, or why there is none; "" for nothing to say."""
        around = self._around(root)
        dtype = self.sizes.fact(root.outputs[0]).dtype
        if sum(_work(node) for node in around) < 2:
            return ""
        if dtype is None or not dtype.is_floating_point():
            return ""
        if dtype not in _FLOATS:
            return f"it gives {dtype.name}, and kernels give FLOAT or narrower"
        best: Region | None = None
        reason = "what it reads has another shape than what it gives"
        try:
            size = prod(self.sizes.shapes(root.outputs[0])[0])
            per_row = self._largest(around) > size
            if per_row and not any(self._writes(node, size) for node in around):
                return ""  # numbers per row: little work, whoever does it
            for cuts in (
                folding_cuts(root, around, self.sizes) if per_row else whole_cuts(root, around, self.sizes)
            ):
                found = self._grown(root, cuts, dtype)
                if isinstance(found, str):
                    reason = found
                elif best is None or _saved(found) > _saved(best):
                    best = found
        except Unfit as unfit:
            return str(unfit)
        if best is None or best.work < 2:
            return self._inner_axes(root, around, dtype) or best or reason
        if best.cut.size < self._largest(around):
            return ""  # numbers per row again, which may end a region of the rows themselves
        return best

    def _inner_axes(self, root: ir.Node, around: list[ir.Node], dtype: ir.DataType) -> str:
        """The reduction over other axes than the last ones that keeps a region from being one, or ""."""
        cuts = next(whole_cuts(root, around, self.sizes), None)
        if cuts is None:  # a number has no rows
            return ""
        for node in around:
            if node.op_type in REDUCTIONS:
                try:
                    reads(node, cuts, self.sizes, self.version, dtype)
                except Unfit as unfit:
                    if unfit.inner_axes:
                        return str(unfit)
        return ""

    def _writes(self, node: ir.Node, size: int) -> bool:
        """Whether a node computes a tensor of more elements."""
        return _work(node) > 1 or (_work(node) > 0 and (self.sizes.fact(node.outputs[0]).size or 0) > size)

    def _largest(self, nodes: list[ir.Node]) -> int:
        """Elements of the largest tensor that nodes read."""
        return max(self.sizes.fact(value).size or 0 for node in nodes for value in node.inputs)

    def _around(self, root: ir.Node) -> list[ir.Node]:
        """The nodes that a region could have, whatever the rows are; the last first."""
        inside: dict[ir.Node, None] = {}
        for node in self._backwards(root):
            if node is root or self._belongs(node, root, inside):
                inside[node] = None
        return list(inside)

    def _backwards(self, root: ir.Node) -> Iterator[ir.Node]:
        heap = [-self._position[root]]
        seen = {root: None}
        while heap:
            node = self.nodes[-heapq.heappop(heap)]
            yield node
            if len(seen) > 2 * MOST_NODES:
                return
            for value in node.inputs:
                producer = None if value is None else value.producer()
                if producer in self._candidates and producer not in seen:
                    seen[producer] = None
                    heapq.heappush(heap, -self._position[producer])

    def _belongs(self, node: ir.Node, root: ir.Node, inside: Mapping[ir.Node, object]) -> bool:
        """Whether a node may be in a region, which reads what it gives: others do so only behind the root."""
        users = [user for user, _ in node.outputs[0].uses()]
        read_here = any(user in inside for user in users)
        others = [user for user in users if user not in inside]
        given = bool(others) or node.outputs[0].is_graph_output()
        last = self._position[root]
        behind = all(self._position.get(user, -1) > last for user in others)  # in a sub-graph: not known
        return read_here and behind and not (given and node.op_type in MOVES)

    def _grown(self, root: ir.Node, cuts: tuple[Cut, Cut], dtype: ir.DataType) -> Region | str:
        """The region with such rows; nodes that turn out not to fit are left out one after the other."""
        if any(cut.columns < 2 or cut.rows * cut.columns != cut.size for cut in cuts):
            return "its rows are not known"
        banned: dict[ir.Node, str] = {}
        for _ in range(MOST_NODES):
            inside: dict[ir.Node, list[Read]] = {}
            for node in self._backwards(root):
                if node in banned or not (node is root or self._belongs(node, root, inside)):
                    continue
                if len(inside) == MOST_NODES:
                    break
                try:
                    inside[node] = reads(node, cuts, self.sizes, self.version, dtype)
                except Unfit as unfit:
                    banned[node] = str(unfit)
                    if node is root:
                        return str(unfit)
            found = self._region(inside, cuts, dtype, banned)
            if isinstance(found, Region):
                return found
            node, reason = found
            if node is root:
                return reason
            banned[node] = reason
        return "too much of it does not fit"

    def _region(
        self,
        inside: Mapping[ir.Node, list[Read]],
        cuts: tuple[Cut, Cut],
        dtype: ir.DataType,
        banned: Mapping[ir.Node, str],
    ) -> Region | tuple[ir.Node, str]:
        """The region of these nodes, or the node that reads what no operand can be, and why."""
        nodes = tuple(sorted(inside, key=self._position.__getitem__))
        operands: dict[ir.Value, str] = {}
        numbers: dict[ir.Value, None] = {}
        segments = 0
        for node in nodes:
            for read in inside[node]:
                value, kind = read.value, read.kind
                if value.producer() in inside:
                    if not self._as_computed(read, cuts):
                        return node, f"'{value.name}' is broadcast along other axes than it is computed on"
                    continue
                if kind == "number" and _is_number(self.sizes, value):
                    numbers[value] = None
                    continue
                obstacle = self._obstacle(read, cuts, dtype)
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
                obstacle = self._result_obstacle(value, cuts, dtype)
                if not obstacle and node is not nodes[-1] and len(whole) + len(per_row) == MOST_RESULTS - 1:
                    obstacle = f"it has more than {MOST_RESULTS} results"
                if obstacle:
                    return node, obstacle
                (whole if self.sizes.fact(value).size == cuts[0].size else per_row).append(value)
        return Region(
            cuts[0],
            nodes,
            inside,
            ((x, "full"), *operands.items()),
            tuple(numbers),
            max(segments, 1),
            tuple(whole),
            tuple(per_row),
            self._moved(nodes, inside, cuts[0].size),
            dict(banned),
        )

    def _result_obstacle(self, value: ir.Value, cuts: tuple[Cut, Cut], dtype: ir.DataType) -> str:
        """Why a value cannot be a result, or ""."""
        own = self.sizes.fact(value).dtype
        if own != dtype:
            return f"'{value.name}' is {own.name if own else 'of an unknown type'}, and read elsewhere"
        for cut, shape in zip(cuts, self.sizes.shapes(value), strict=True):
            rows = cut.shape[: -cut.layout.axes]
            per_row = (rows, rows + (1,) * cut.layout.axes)
            if shape != cut.shape and (cut.layout.grouped or shape not in per_row):
                return f"'{value.name}' has other axes than the rows that it is reduced to"
        return ""

    def _moved(self, nodes: Sequence[ir.Node], reads: Mapping[ir.Node, list[Read]], size: int) -> int:
        total = 0
        for node in nodes:
            full = {read.value for read in reads[node] if read.kind in ("full", "truth")}
            writes = self.sizes.fact(node.outputs[0]).size == size
            if node.op_type not in MOVES:
                total += len(full) * _work(node) + writes
            total += node.op_type == "Expand"
        return total

    def _as_computed(self, read: Read, cuts: tuple[Cut, Cut]) -> bool:
        """Whether a value of the region is read element by element, or number by number of the rows."""
        if self.sizes.fact(read.value).size == cuts[0].size:
            return read.kind in ("full", "truth")
        of_each = tuple((1, cut.rows) for cut in cuts)
        return read.kind == "number" or (read.kind in ("column", "truth") and read.places == of_each)

    def _obstacle(self, read: Read, cuts: tuple[Cut, Cut], dtype: ir.DataType) -> str:
        """Why a value from outside cannot be an operand, or ""."""
        value, kind = read.value, read.kind
        name, own = value.name, self.sizes.fact(value).dtype
        if kind == "truth":
            return f"the condition '{name}' comes from outside"
        if own != dtype:
            return f"'{name}' is {own.name if own else 'of an unknown type'}, and the result {dtype.name}"
        shapes = self.sizes.shapes(value)
        for cut, shape, place in zip(cuts, shapes, read.places or ((1, 1), (1, 1)), strict=True):
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


def _is_number(sizes: Sizes, value: ir.Value) -> bool:
    fact = sizes.fact(value)
    return fact.array is not None and fact.array.size == 1 and fact.constant


def _work(node: ir.Node) -> int:
    """How often the runtime goes through what a node reads, or what takes as long."""
    return 0 if node.op_type in MOVES else 1 + (node.op_type in SLOW_REDUCTIONS)


def _saved(region: Region) -> int:
    return region.moved - region.least_moved
