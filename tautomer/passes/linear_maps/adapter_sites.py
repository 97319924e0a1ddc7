"""Where adapters are: products of low rank that end in a sum with a linear map of the same tensor.

    y = (x W + b) + s (x A) B          A [in, r], B [r, out], r < min(in, out)
    y = W[x] + s A[x] B                of a table; A [rows, r]

What looks like one is proposed by its two narrow products; whether all that is summed is linear in one tensor
is asked of `AffineMaps`. Adapters in a wider type than W add up in that, and a conversion back ends the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from tautomer.passes.linear_maps.affine_maps import AffineMaps
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_reader
from tautomer.passes.workspace import Workspace

_PRODUCTS = ("MatMul", "Gemm")
_TABLE = "Gather"
_ON_THE_WAY = ("Add", "Cast", "Div", "Dropout", "Identity", "Mul", "Neg", "Sub")


@dataclass(frozen=True)
class AdapterSite:
    """A sum to be made one linear map.

    Attributes:
        root: the node that gives the sum, in the type of the linear map.
        total: the sum in the type that it is computed in.
        x: what all of its parts read.
        base: the linear map that stays.
        nodes: between x and the sum, the last first.
        ranks: of the adapters.
    """

    root: ir.Node
    total: ir.Value
    x: ir.Value
    base: LinearReader
    nodes: Sequence[ir.Node]
    ranks: Sequence[int]


def adapted_sums(work: Workspace, maps: AffineMaps) -> dict[ir.Node, list[int]]:
    """The sums that products of low rank end in, the last that is still a linear map, and their ranks."""
    found: dict[ir.Node, list[int]] = {}
    for node in work.model.graph:
        rank = _rank(work, node)
        root = _sum_after(work, node.outputs[0]) if rank else None
        while root is not None:
            further = _sum_after(work, root.outputs[0])
            if further is None or isinstance(maps.origins(further.outputs[0]), str):
                break
            root = further
        if root is not None:
            found.setdefault(root, []).append(rank)
    return found


def _rank(work: Workspace, node: ir.Node) -> int:
    """The width between two products with constant matrices, if it is the narrowest; else 0."""
    if node.op_type not in _PRODUCTS or work.facts.get(node.outputs[0]).constant:
        return 0
    value = node.inputs[0]
    made = value.producer() if value is not None else None
    while made is not None and made.op_type in _ON_THE_WAY:
        varying = [each for each in made.inputs if each and not work.facts.get(each).constant]
        made = varying[0].producer() if varying else None
    if made is None or made.op_type not in (*_PRODUCTS, _TABLE) or made is node:
        return 0
    table = made.op_type == _TABLE
    shapes = [work.facts.get(each) for each in (made.inputs[0 if table else 1], node.inputs[1])]
    sizes = [value.size for value in (work.facts.get(made.inputs[0]), work.facts.get(node.outputs[0]))]
    if not all(fact.constant and fact.shape is not None and len(fact.shape) == 2 for fact in shapes):
        return 0
    between, wide = ((work.facts.get(each.outputs[0]).shape or (0,))[-1] for each in (made, node))
    first = (work.facts.get(made.inputs[0]).shape or (0,))[0 if table else -1]
    return between if all(sizes) and between < min(first, wide) else 0


def _sum_after(work: Workspace, value: ir.Value) -> ir.Node | None:
    """The sum of two varying tensors that a value goes into, through nodes that nothing else reads."""
    while len(uses := list(value.uses())) == 1:
        node = uses[0][0]
        if node.op_type not in _ON_THE_WAY or node.graph is not work.model.graph:
            return None
        both = not any(work.facts.get(each).constant for each in node.inputs)
        if node.op_type in ("Add", "Sub") and both:
            return node
        value = node.outputs[0]
    return None


def adapter_site(work: Workspace, maps: AffineMaps, root: ir.Node, ranks: Sequence[int]) -> AdapterSite | str:
    """What there is to merge, or why there is nothing."""
    origins = maps.origins(root.outputs[0])
    if isinstance(origins, str):
        return origins
    x, total = origins[0], root.outputs[0]
    nodes = maps.region(total, x)
    width = (work.facts.get(total).shape or (0,))[-1]
    for node in reversed(nodes):
        reader = _reader(work, node, x)
        if reader is None or _width(work, reader) != width:
            continue
        end = _in_type_of(work, root, reader)
        if end is None:
            kinds = [work.facts.get(value).dtype for value in (total, reader.output)]
            into, own = (kind.name if kind else "an unknown type" for kind in kinds)
            return f"the sum stays in {into}, and its linear map, which would give all of it, in {own}"
        tables = [work.facts.get(each.inputs[0]).shape for each in nodes if each.op_type == _TABLE]
        if len({shape[0] for shape in tables if shape}) > 1:
            return "its tables have different numbers of rows"
        return AdapterSite(end, total, x, reader, nodes if end is root else [end, *nodes], ranks)
    return "no linear map beside it reads the same tensor and gives the same width"


def _reader(work: Workspace, node: ir.Node, x: ir.Value) -> LinearReader | None:
    """The linear map that a node is, or the table that it reads by the indices x."""
    if node.op_type == _TABLE and node.inputs[1] is x and node.inputs[0] is not None:
        return LinearReader(node, node.inputs[0], False, 1.0, 1.0, None, node.outputs[0])
    reader = linear_reader(work, node) if node.op_type in _PRODUCTS and node.inputs[0] is x else None
    return reader if isinstance(reader, LinearReader) else None


def _in_type_of(work: Workspace, root: ir.Node, base: LinearReader) -> ir.Node | None:
    """The node that gives the sum in the type of the linear map: itself, or the conversion that reads it."""
    value, wanted = root.outputs[0], work.facts.get(base.output).dtype
    if work.facts.get(value).dtype == wanted:
        return root
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0][0].op_type != "Cast":
        return None
    return uses[0][0] if work.facts.get(uses[0][0].outputs[0]).dtype == wanted else None


def _width(work: Workspace, reader: LinearReader) -> int:
    shape = work.facts.get(reader.node.outputs[0]).shape
    return shape[-1] if shape else 0
