"""A rowwise region: a part of a graph that one pass over rows could compute, with what it reads and gives.

    the values of a region = f(operands), f of rows

Its results are of the shape of what it reads, or one number per row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from tautomer.passes.rowwise.nodes import MOVES
from tautomer.passes.rowwise.reads import Read
from tautomer.passes.rowwise.shapes import Cut
from tautomer.passes.runtime_fusions import SLOW_REDUCTIONS
from tautomer.patterns.rowwise.vocabulary import REDUCTIONS

MOST_NODES = 64  # of a kernel: what the compiler still keeps in registers, mostly
MOST_OPERANDS = 16
MOST_RESULTS = 4


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
        return sum(map(work_of, self.nodes))

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


def work_of(node: ir.Node) -> int:
    """How often the runtime goes through what a node reads, or what takes as long."""
    return 0 if node.op_type in MOVES else 1 + (node.op_type in SLOW_REDUCTIONS)
