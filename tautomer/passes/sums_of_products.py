"""sums of products: sum over j of a[n, j] C[o, j]  ->  a C^T, for a constant C: a matrix product.

    reduce_sum(a[:, None, ...] * C, the axes behind the first two) = reshape(a) reshape(C)^T
    sum over j of max(a[n, j] C[o, j], 0) = max(a, 0) max(C, 0)^T + max(-a, 0) max(-C, 0)^T

Condition: nobody else reads the product by elements, which is never made then: it has as many elements as a
has, times the channels. For the second line a is bounded, as a norm or a tanh is: the other side of an
infinity would be 0 times it. KAN layers of Fourier series are written like this, as are those whose parameter
is a factor (SKAN).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.naming import label
from tautomer.graph.semantics.reductions import axes_of
from tautomer.passes.bounded_values import is_bounded
from tautomer.passes.linear_maps.weight_check import expression_behind
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
        bend: the node between it and the sum that takes the larger of a product and 0; None where none does.
        varying: a, with one channel.
        constant: C.
        channels: how many C has.
        summed: the sizes of the axes that are summed.
    """

    product: ir.Node
    bend: ir.Node | None
    varying: ir.Value
    constant: ir.Value
    channels: int
    summed: Shape


def _site(work: Workspace, node: ir.Node) -> _Site | None:
    """What a sum is, if it is one of products with a constant."""
    product = node.inputs[0].producer() if node.inputs[0] is not None else None
    bend = product if product is not None and _is_relu(work, product) else None
    if bend is not None:
        assert bend.inputs[0] is not None
        product = bend.inputs[0].producer()
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
            return _Site(product, bend, a, c, channels, summed)
    return None


def _is_relu(work: Workspace, node: ir.Node) -> bool:
    """Whether a node gives max(x, 0)."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Relu", "Clip"):
        return False
    call = call_of(node, work.version)
    low, high = (node.inputs[i] if len(node.inputs) > i else None for i in (1, 2))
    least = work.facts.get(low).array if low is not None else call.get("min")
    bounded = high is not None or call.get("max") is not None
    return node.op_type == "Relu" or (
        not bounded and least is not None and bool(np.all(np.asarray(least) == 0))
    )


def _rewrite(work: Workspace, node: ir.Node, site: _Site) -> str:
    """Rewrites a sum; the reason why not, or ""."""
    between = [site.product] if site.bend is None else [site.product, site.bend]
    value, old = site.product.outputs[0], node.outputs[0]
    if any(len(each.outputs[0].uses()) != 1 or each.outputs[0].is_graph_output() for each in between):
        return "its products are read elsewhere, too"
    if site.bend is not None and not is_bounded(work, site.varying):
        return "what is multiplied may be infinite, and the side that is 0 would be 0 times infinity"
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
    new = _product(b, flat, matrix) if site.bend is None else _of_both_signs(b, flat, matrix)
    key = (
        SumsOfProducts.name,
        site.bend is None,
        site.channels,
        site.summed,
        work.facts.get(site.constant).shape,
    )
    small = site.channels * count <= _SITE
    reason = work.refuses_linear(key, old, new, [site.varying], small=small)
    if reason:
        b.discard()
        return reason
    work.replace(old, new, b, [*between, node])
    work.catch_up()
    return ""


def _product(b: Builder, a: ir.Value, c: ir.Value) -> ir.Value:
    """a C^T."""
    return b.op("MatMul", a, b.op("Transpose", c, perm=[1, 0]))


def _of_both_signs(b: Builder, a: ir.Value, c: ir.Value) -> ir.Value:
    """max(a, 0) max(C, 0)^T + max(-a, 0) max(-C, 0)^T."""
    positive = _product(b, b.op("Relu", a), b.op("Relu", c))
    return b.op("Add", positive, _product(b, b.op("Relu", b.op("Neg", a)), b.op("Relu", b.op("Neg", c))))
