"""Where the rows of a region may lie: the ways to cut a tensor that its neighbourhood gives reason to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import onnx_ir as ir

from tautomer.passes.rowwise.nodes import Sizes
from tautomer.passes.rowwise.shapes import Cut
from tautomer.patterns.rowwise.program import Layout
from tautomer.patterns.rowwise.vocabulary import REDUCTIONS

_MOST_LAYOUTS = 8


def whole_cuts(root: ir.Node, around: Sequence[ir.Node], sizes: Sizes) -> Iterator[tuple[Cut, Cut]]:
    """The ways to cut the result into rows that its neighbourhood gives reason to try."""
    here, there = sizes.shapes(root.outputs[0])
    for axes in range(1, len(here) + 1):
        yield Cut(Layout(axes), here), Cut(Layout(axes), there)
    if len(here) < 2 or not here[0]:
        return
    groups = {1: None}
    whole = prod(here[1:])
    for node in around:
        for value in node.outputs[:1] if node.op_type in REDUCTIONS else ():
            rows = prod(sizes.shapes(value)[0])
            if rows and rows % here[0] == 0 and whole % (rows // here[0]) == 0:
                groups[rows // here[0]] = None
        if node.op_type == "InstanceNormalization":
            groups[sizes.shapes(node.inputs[0])[0][1]] = None
        if node.op_type == "GroupNormalization":
            groups[node.attributes.get_int("num_groups", 1)] = None
    for count in list(groups)[:_MOST_LAYOUTS]:
        layout = Layout(grouped=True)
        yield Cut(layout, here, count), Cut(layout, there, count)


def folding_cuts(root: ir.Node, around: Sequence[ir.Node], sizes: Sizes) -> Iterator[tuple[Cut, Cut]]:
    """The rows of which the result may be one number each: those that its neighbourhood reduces."""
    rows = [prod(shape) for shape in sizes.shapes(root.outputs[0])]
    found: dict[tuple[Cut, Cut], None] = {}
    for node in around:
        if node.op_type in REDUCTIONS:
            here, there = sizes.shapes(node.inputs[0])
            for axes in range(1, len(here) + 1):
                cuts = Cut(Layout(axes), here), Cut(Layout(axes), there)
                if [cut.rows for cut in cuts] == rows:
                    found[cuts] = None
                    break
    return iter([*found][:_MOST_LAYOUTS])
