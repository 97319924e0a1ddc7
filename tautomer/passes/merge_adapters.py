"""merge adapters: a linear map and low-rank maps beside it that read the same tensor  ->  one linear map.

    x W + b + s (x A) B = x (W + s A B) + b            LoRA, rsLoRA, VeRA; PiSSA with what is left of W
    W[x] + s A[x] B     = (W + s A B)[x]               LoRA of a table of embeddings
    x W + b + (g - 1) (x W) + g s (x A) B = x ((W + s A B) diag(g)) + b        DoRA, g = magnitude / norm

Condition: everything between x and the sum is linear with constants and read by nobody else; W is not
quantized and has no reader without the adapter, who would need it as it was; nothing rounds in between but
the conversion back to W's type of a sum with adapters in a wider one. The sum may be in any order, s on any
factor, and several adapters add up. It is computed in double precision, and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.dead_code import remove_dead
from tautomer.graph.naming import label, printable
from tautomer.passes.linear_maps.adapter_sites import AdapterSite, adapted_sums, adapter_site
from tautomer.passes.linear_maps.affine_arithmetic import AffineMap
from tautomer.passes.linear_maps.affine_maps import AffineMaps
from tautomer.passes.linear_maps.weight_check import expression_behind, unfit
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_SITE = 1 << 18  # elements of the matrices of a site up to which it is checked on its own, in a second
_EXPAND_SINCE = 8


@dataclass(frozen=True)
class MergeAdapters:
    """Merges low-rank adapters into the linear maps that they adapt."""

    name: ClassVar[str] = "merge adapters"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each sum with an adapter in it."""
        maps = AffineMaps(work)
        sites, remarks = [], []
        for root, rank in adapted_sums(work, maps).items():
            found = adapter_site(work, maps, root, rank)
            if isinstance(found, str):
                hint = "give the adapter the type of its linear map" if "Cast)" in found else ""
                remarks.append(Remark("missed", self.name, root.op_type, label(root), found, hint))
            else:
                sites.append(found)
        known = {node for site in sites for node in site.nodes}  # only asked whether it has a node
        for site in sites:
            where, op = label(site.base.node), site.base.node.op_type
            reason = _obstacle(work, site, known) or _merge(work, maps, site)
            if reason:
                remarks.append(Remark("missed", self.name, op, where, reason))
                continue
            ranks = " and ".join(map(str, site.ranks))
            done = f"an adapter of rank {ranks} is merged into its matrix"
            remarks.append(Remark("passed", self.name, op, where, done))
        return remarks


def _obstacle(work: Workspace, site: AdapterSite, known: set[ir.Node]) -> str:
    """Why a site stays as it is, or ""."""
    if work.version < _EXPAND_SINCE:
        return (
            f"it is written for opset {work.version}, and constants are not repeated before {_EXPAND_SINCE}"
        )
    inside = set(site.nodes)  # only asked whether it has a node
    for node in site.nodes:
        for value in node.outputs:
            readers = [reader for reader, _ in value.uses() if reader not in inside]
            if node is not site.root and (readers or value.is_graph_output()):
                by = f"node '{label(readers[0])}'" if readers else "the model's caller"
                return f"'{printable(value.name or '')}' is read by {by}, too"
    for constant in _constants(work, site):
        reason = unfit(work, constant)
        if reason:
            return reason
    for reader in _readers(work, site.base.weight):
        if reader not in known:
            shared = f"'{printable(site.base.weight.name or '')}' is read by node '{label(reader)}'"
            return f"{shared} as it is, and would be stored twice"
    return ""


def _constants(work: Workspace, site: AdapterSite) -> Iterator[ir.Value]:
    """The constants that the site reads."""
    for node in site.nodes:
        for value in node.inputs:
            if value is not None and work.facts.get(value).constant:
                yield value


def _readers(work: Workspace, weight: ir.Value) -> Iterator[ir.Node]:
    """Who reads the stored tensors behind a constant in a product or a table; norms of it are no readers."""
    expression = expression_behind(work, weight)
    names = () if isinstance(expression, str) else expression.sources
    stack = [value for name in names if (value := work.model.graph.initializers.get(name)) is not None]
    while stack:
        for node, _ in stack.pop().uses():
            if work.facts.get(node.outputs[0]).constant:
                stack += node.outputs if node.op_type in ("Transpose", "Identity", "Cast", "Reshape") else ()
            else:
                yield node


def _merge(work: Workspace, maps: AffineMaps, site: AdapterSite) -> str:
    """Merges; the reason why not, or ""."""
    graph, base = site.root.graph, site.base
    assert isinstance(graph, ir.Graph)
    b = work.builder(graph)
    merged = maps.written(b, site.total, site.x)
    dtype = work.facts.get(base.weight).dtype
    assert merged.matrix is not None and dtype is not None
    turned = b.op("Transpose", merged.matrix, perm=[1, 0]) if base.transposed else merged.matrix
    weight = b.op("Cast", turned, to=int(dtype))
    row = None if merged.row is None else b.op("Cast", merged.row, to=int(dtype))
    reason = _refused(work, site, merged)
    if reason:
        b.discard()
        return reason
    shape = work.facts.get(base.bias).shape
    if row is not None and shape is not None and len(shape) != 1:
        row = b.op("Reshape", row, b.constant(np.array(shape, np.int64)))
    work.place(b, site.root)
    kept = [base.node] if base.adder is None or base.adder[0] is base.node else [base.node, base.adder[0]]
    for node in kept:  # behind all constants that the sum reads
        graph.remove(node)
        graph.insert_before(site.root, node)
    base.node.replace_input_with(0 if base.node.op_type == "Gather" else 1, weight)
    if base.adder is not None and row is not None:
        base.adder[0].replace_input_with(base.adder[1], row)
    _take_over(work, site, row if base.adder is None else None, kept)
    return ""


def _refused(work: Workspace, site: AdapterSite, merged: AffineMap) -> str:
    """What the evidence has against it, or "": of the site where it is small, else of the whole model."""
    sizes = [prod(work.facts.get(value).shape or ()) for value in _constants(work, site)]
    if sum(sizes) > _SITE or site.base.node.op_type == "Gather":  # of indices a site has no numbers
        return work.blind()
    assert isinstance(site.root.graph, ir.Graph)
    trial = work.builder(site.root.graph)
    dtype = work.facts.get(site.base.weight).dtype
    assert dtype is not None and merged.matrix is not None
    new = trial.op("MatMul", site.x, trial.op("Cast", merged.matrix, to=int(dtype)))
    if merged.row is not None:
        new = trial.op("Add", new, trial.op("Cast", merged.row, to=int(dtype)))
    key = (
        *((node.op_type, str(sorted(node.attributes))) for node in site.nodes),
        *sizes,
        site.base.transposed,
    )
    reason = work.evidence.refuses(key, site.root.outputs[0], new, work.leaves([site.x]), linear=True)
    trial.discard()
    return reason


def _take_over(work: Workspace, site: AdapterSite, row: ir.Value | None, kept: Sequence[ir.Node]) -> None:
    """Gives the readers of the sum the linear map's result, with a bias that it had not."""
    old, value = site.root.outputs[0], site.base.output
    name = old.name
    for node in kept:  # names speak of the original's values, and these are other values now
        node.outputs[0].name = work.names.fresh("tautomer/merged")
    work.drop(old, value)
    remove_dead(node for node in site.nodes if node not in kept)
    value.name = name
    if row is None:
        return
    node = site.base.node
    if node.op_type == "Gemm":
        node.resize_inputs(3)
        node.replace_input_with(2, row)
        return
    assert isinstance(node.graph, ir.Graph)
    b = work.builder(node.graph)
    work.follow(value, b.op("Add", value, row), b)
