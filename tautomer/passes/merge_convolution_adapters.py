"""merge convolution adapters: Conv(x, W, c) + s Conv(Conv(x, A), B)  ->  Conv(x, W + s B A, c), for a 1x1 B.

    (B A)[o, i, ...] = sum over r of B[o, r] A[r, i, ...]

Condition: A moves over x as W does (strides, padding, dilations), B is 1x1 and moves element by element, no
convolution has groups, A and B have no bias, and nobody else reads what lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.naming import label, printable
from tautomer.passes.linear_maps.weight_check import unfit
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_SITE = 1 << 15  # elements of the weights of a site up to which it is checked on its own, in a second
_MOVES = ("strides", "pads", "dilations", "auto_pad")


@dataclass(frozen=True)
class MergeConvolutionAdapters:
    """Merges low-rank convolutions into the convolution that they are added to."""

    name: ClassVar[str] = "merge convolution adapters"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each sum with such an adapter."""
        remarks = []
        for node in [node for node in work.model.graph if node.op_type == "Add" and not node.domain]:
            site = _site(work, node)
            if site is None:
                continue
            rank = (work.facts.get(site.first.inputs[1]).shape or (0,))[0]
            reason = _obstacle(work, site) or _merge(work, site)
            done = f"an adapter of rank {rank} is merged into its weights"
            kind = "missed" if reason else "passed"
            remarks.append(Remark(kind, self.name, "Conv", label(site.base), reason or done))  # type: ignore[arg-type]
        return remarks


@dataclass(frozen=True)
class _Site:
    """A convolution and its adapter.

    Attributes:
        root: the sum.
        base: the convolution that stays.
        first, second: A and B.
        between: values from A to the sum, and that of the base.
        factors: the products and quotients with numbers on the way.
    """

    root: ir.Node
    base: ir.Node
    first: ir.Node
    second: ir.Node
    between: tuple[ir.Value, ...]
    factors: tuple[ir.Node, ...]


def _site(work: Workspace, root: ir.Node) -> _Site | None:
    """What a sum is made of, where it is a convolution and two others of the same tensor."""
    for base, other in (root.inputs, root.inputs[::-1]):
        if base is None or other is None or (made := base.producer()) is None or made.op_type != "Conv":
            continue
        second, after = _behind(work, other)
        if second is None or second.inputs[0] is None:
            continue
        first, inside = _behind(work, second.inputs[0])
        if first is None or first.inputs[0] is not made.inputs[0]:
            continue
        factors = (*inside, *after)
        values = (base, first.outputs[0], second.outputs[0], *(node.outputs[0] for node in factors))
        return _Site(root, made, first, second, values, factors)
    return None


def _behind(work: Workspace, value: ir.Value) -> tuple[ir.Node | None, list[ir.Node]]:
    """The convolution that a value comes from, through factors that are numbers."""
    factors: list[ir.Node] = []
    node = value.producer()
    while node is not None and node.op_type in ("Mul", "Div") and not node.domain:
        varying = [each for each in node.inputs if each is not None and not work.facts.get(each).constant]
        numbers = [each for each in node.inputs if each not in varying and work.facts.get(each).size == 1]
        if (
            len(varying) != 1
            or len(numbers) != 1
            or (node.op_type == "Div" and node.inputs[0] not in varying)
        ):
            return None, []
        factors.append(node)
        node = varying[0].producer()
    return (node, factors) if node is not None and node.op_type == "Conv" else (None, [])


def _obstacle(work: Workspace, site: _Site) -> str:
    """Why an adapter stays, or ""."""
    calls = [call_of(node, work.version) for node in (site.base, site.first, site.second)]
    shapes = [work.facts.get(node.inputs[1]).shape for node in (site.base, site.first, site.second)]
    base, first, second = shapes
    if base is None or first is None or second is None:
        return "the shape of its weights is not known"
    if any(call.get("group", 1) != 1 for call in calls):
        return "its convolutions have groups of channels"
    if first[2:] != base[2:] or any(calls[0].get(name) != calls[1].get(name) for name in _MOVES):
        return f"node '{label(site.first)}' moves over its input in another way"
    still = [calls[2].get("strides") or (1,), tuple(1 + pad for pad in calls[2].get("pads") or (0,))]
    if prod(second[2:]) != 1 or any(set(numbers) != {1} for numbers in still):
        return f"node '{label(site.second)}' is no product of channels alone"
    if any(len(node.inputs) > 2 and node.inputs[2] is not None for node in (site.first, site.second)):
        return "its adapter has a bias"
    for value in site.between:
        if len(value.uses()) != 1 or value.is_graph_output():
            return f"'{printable(value.name or '')}' is read elsewhere, too"
    weights = [node.inputs[1] for node in (site.base, site.first, site.second)]
    numbers = [value for node in site.factors for value in node.inputs if work.facts.get(value).constant]
    reasons = [unfit(work, value) for value in (*weights, *numbers) if value is not None]
    return next((reason for reason in reasons if reason), "")


def _merge(work: Workspace, site: _Site) -> str:
    """Merges; the reason why not, or ""."""
    graph, x, old = site.root.graph, site.base.inputs[0], site.root.outputs[0]
    fact = work.facts.get(site.base.inputs[1])
    assert isinstance(graph, ir.Graph) and x is not None and fact.shape is not None and fact.dtype is not None
    b = work.builder(graph)
    wide = [
        b.op("Cast", node.inputs[1], to=int(ir.DataType.DOUBLE))
        for node in (site.base, site.first, site.second)
    ]
    ranks = [(work.facts.get(node.inputs[1]).shape or (1,))[0] for node in (site.first, site.second)]
    flat = [
        b.op("Reshape", each, b.constant(np.array([rank, -1], np.int64)))
        for each, rank in zip(wide[1:], ranks, strict=True)
    ]
    product = b.op("MatMul", flat[1], flat[0])
    for node in site.factors:
        number = next(value for value in node.inputs if work.facts.get(value).constant)
        factor = b.op("Reshape", number, b.constant(np.array([1], np.int64)))
        product = b.op(node.op_type, product, b.op("Cast", factor, to=int(ir.DataType.DOUBLE)))
    total = b.op("Add", wide[0], b.op("Reshape", product, b.constant(np.array(fact.shape, np.int64))))
    weight = b.op("Cast", total, to=int(fact.dtype))
    trial = work.builder(graph)
    new = trial.op("Conv", x, weight, *site.base.inputs[2:], **call_of(site.base, work.version).attributes)
    sizes = [work.facts.get(node.inputs[1]).size or 0 for node in (site.base, site.first, site.second)]
    operators = tuple(node.op_type for node in site.factors)
    key = (
        MergeConvolutionAdapters.name,
        operators,
        *sizes,
        fact.shape,
        str(call_of(site.base, 0).attributes),
    )
    reason = work.refuses_linear(key, old, new, [x], small=sum(sizes) <= _SITE)
    trial.discard()
    if reason:
        b.discard()
        return reason
    work.place(b, site.root)
    graph.remove(site.base)  # to behind all constants that the sum reads
    graph.insert_before(site.root, site.base)
    site.base.replace_input_with(1, weight)
    value, name = site.base.outputs[0], old.name
    value.name = work.names.fresh("tautomer/merged")  # names speak of the original's values
    work.drop(old, value)
    value.name = name
    return ""
