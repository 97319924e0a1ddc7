"""sums of products: sum over j of a[n, j] C[o, j]  ->  a C^T, for a constant C: a matrix product.

    reduce_sum(a[:, None, ...] * C, the axes behind the first two) = reshape(a) reshape(C)^T

Condition: nobody else reads the product by elements, which is never made then: it has as many elements as a
has, times the channels. KAN layers of Fourier series are written like this, as are those whose parameter is a
factor (SKAN).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.naming import label
from tautomer.graph.semantics.reductions import axes_of
from tautomer.passes.weight_check import expression_behind
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_SITE = 1 << 14  # products up to which a site is checked on its own, in a second


@dataclass(frozen=True)
class SumsOfProducts:
    """Makes matrix products of sums that are written out."""

    name: ClassVar[str] = "sums of products"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each sum."""
        remarks = []
        for node in [node for node in work.model.graph if node.op_type == "ReduceSum" and not node.domain]:
            site = _site(work, node)
            if site is None:
                continue
            reason = _rewrite(work, node, site)
            done = f"{site.channels} sums of {prod(site.summed)} products are one matrix product"
            kind = "missed" if reason else "passed"
            remarks.append(Remark(kind, self.name, "MatMul", label(node), reason or done))  # type: ignore[arg-type]
        return remarks


@dataclass(frozen=True)
class _Site:
    """A sum of products.

    Attributes:
        product: the Mul.
        varying: a, with one channel.
        constant: C.
        channels: how many C has.
        summed: the sizes of the axes that are summed.
    """

    product: ir.Node
    varying: ir.Value
    constant: ir.Value
    channels: int
    summed: Shape


def _site(work: Workspace, node: ir.Node) -> _Site | None:
    """What a sum is, if it is one of products with a constant."""
    product = node.inputs[0].producer() if node.inputs[0] is not None else None
    if (
        product is None
        or product.op_type != "Mul"
        or product.domain
        or work.facts.get(node.outputs[0]).constant
    ):
        return None
    whole = work.facts.get(product.outputs[0]).shape
    given = work.facts.get(node.inputs[1]).array if len(node.inputs) > 1 else None
    call = call_of(node, work.version)
    listed = None if given is None else [int(axis) for axis in given.reshape(-1)]
    if whole is None or len(whole) < 3 or call.get("keepdims", 1):
        return None
    if sorted(axes_of(call, listed, len(whole))) != list(range(2, len(whole))):
        return None
    summed, channels = whole[2:], whole[1]
    for index in (0, 1):
        a, c = product.inputs[index], product.inputs[1 - index]
        if a is None or c is None or work.facts.get(a).constant or not work.facts.get(c).constant:
            continue
        shape = work.facts.get(c).shape or ()
        alike = (1,) * (len(whole) - len(shape)) + shape == (1, channels, *summed)
        if alike and channels > 1 and work.facts.get(a).shape == (whole[0], 1, *summed):
            return _Site(product, a, c, channels, summed)
    return None


def _rewrite(work: Workspace, node: ir.Node, site: _Site) -> str:
    """Rewrites a sum; the reason why not, or ""."""
    value, old = site.product.outputs[0], node.outputs[0]
    if len(value.uses()) != 1 or value.is_graph_output():
        return "its products are read elsewhere, too"
    found = expression_behind(work, site.constant)
    if isinstance(found, str):
        return found
    if not work.recognition.static(value, tuple(range(1, len(site.summed) + 2))):
        return "the number of its channels or products is not fixed"
    graph, count = node.graph, prod(site.summed)
    assert isinstance(graph, ir.Graph)
    b = work.builder(graph)
    flat = b.op("Reshape", site.varying, b.constant(np.array([-1, count], np.int64)))
    matrix = b.op("Reshape", site.constant, b.constant(np.array([site.channels, count], np.int64)))
    new = b.op("MatMul", flat, b.op("Transpose", matrix, perm=[1, 0]))
    key = (SumsOfProducts.name, site.channels, site.summed, work.facts.get(site.constant).shape)
    small = site.channels * count <= _SITE
    leaves = work.leaves([site.varying])
    reason = work.evidence.refuses(key, old, new, leaves, linear=True) if small else work.blind()
    if reason:
        b.discard()
        return reason
    work.replace(old, new, b, [site.product, node])
    work.catch_up()
    return ""
