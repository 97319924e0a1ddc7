"""Rowwise regions are grown from the value that they give, backwards along what is read.

A node belongs to a region when its results are read by the region alone, or by others that come behind it. So
no path leaves the region and comes back, and it can be computed at one place. What does not fit, and what is
read elsewhere before, is an operand, computed outside as before.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from tautomer.passes.rowwise.boundary import Boundary
from tautomer.passes.rowwise.cuts import folding_cuts, whole_cuts
from tautomer.passes.rowwise.nodes import MOVES, Sizes, Unfit, may_stand
from tautomer.passes.rowwise.reads import Read, reads
from tautomer.passes.rowwise.region import MOST_NODES, Region, work_of
from tautomer.passes.rowwise.shapes import Cut
from tautomer.patterns.rowwise.vocabulary import REDUCTIONS

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


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
        if sum(work_of(node) for node in around) < 2:
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
                elif best is None or _worth(found) > _worth(best):
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
        return work_of(node) > 1 or (
            work_of(node) > 0 and (self.sizes.fact(node.outputs[0]).size or 0) > size
        )

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
        boundary = Boundary(self.sizes, cuts, dtype)
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
            nodes = tuple(sorted(inside, key=self._position.__getitem__))
            found = boundary.region(nodes, inside, banned)
            if isinstance(found, Region):
                return found
            node, reason = found
            if node is root:
                return reason
            banned[node] = reason
        return "too much of it does not fit"


def _worth(region: Region) -> tuple[int, int]:
    """What it saves, then how few operands have to be found again for each row: long rows for short ones."""
    saved = region.moved - region.least_moved
    return saved, -sum(kind == "block" for _, kind in region.operands)
