"""Reductions over axes, softmax, and the k largest."""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import onnx_ir as ir

from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.site import Opaque, Operand, Site
from tautomer.graph.fx.sizes import element_type
from tautomer.graph.fx.table import reads, writes

_OVER_AXES = {
    "aten.mean.dim": "ReduceMean",
    "aten.sum.dim_IntList": "ReduceSum",
    "aten.amax.default": "ReduceMax",
    "aten.amin.default": "ReduceMin",
    "aten.logsumexp.default": "ReduceLogSumExp",
}
_WRITTEN = {op: name for name, op in _OVER_AXES.items()}


@reads(*_OVER_AXES)
def over_axes(site: Site) -> ir.Value:
    """A reduction over given axes, or over all."""
    site.of_floats()
    site.of_one_type("self")
    rank = len(site.meta("self").shape)
    axes = site.number("dim")
    axes = [axes] if isinstance(axes, int) else list(axes or range(rank))
    if not axes:
        raise Opaque("it reduces a number")
    return site.op(
        _OVER_AXES[str(site.fx.target)],
        site.tensor("self"),
        site.constant([axis % rank - rank for axis in axes]),
        keepdims=int(site.number("keepdim")),
    )


@reads("aten.linalg_norm.default", "aten.linalg_vector_norm.default")
def euclidean_norm(site: Site) -> ir.Value:
    """The root of the sum of squares along one axis."""
    site.of_floats()
    site.of_one_type("self")
    axes = list(site.number("dim") or [])
    if site.number("ord") not in (None, 2) or len(axes) != 1:
        raise Opaque("it is another norm than that of rows")
    rank = len(site.meta("self").shape)
    return site.op(
        "ReduceL2",
        site.tensor("self"),
        site.constant([axes[0] % rank - rank]),
        keepdims=int(site.number("keepdim")),
    )


@writes("ReduceL2")
def write_norm(emit: Emitter, node: ir.Node) -> Any:
    """The same."""
    x, axes = emit.operand(node.inputs[0]), emit.integers(node.inputs[1])
    keep = bool(node.attributes["keepdims"].as_int()) if "keepdims" in node.attributes else True
    return emit.call("aten.linalg_vector_norm.default", x, 2, axes, keep)


@reads("aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default")
def global_average(site: Site) -> ir.Value:
    """The mean over all pixels."""
    wanted = site.number("output_size")
    if any(size != 1 for size in wanted):
        raise Opaque("it averages over parts of the axes")
    return site.op("ReduceMean", site.tensor("self"), site.constant(list(range(-len(wanted), 0))), keepdims=1)


@reads("aten.softmax.int", "aten.log_softmax.int")
def softmax(site: Site) -> ir.Value:
    """Softmax, in another type after a conversion."""
    site.of_floats()
    x: Operand | ir.Value = site.tensor("self")
    if site.meta("self").dtype != site.result.dtype:
        dtype = element_type(site.result.dtype)
        assert dtype is not None
        x = site.op("Cast", x, to=int(dtype))
    rank = len(site.shape)
    if not rank:
        raise Opaque("it is of a number")
    op = "Softmax" if "log" not in str(site.fx.target) else "LogSoftmax"
    return site.op(op, x, axis=site.axis("dim", rank) - rank)


@reads("aten.topk.default")
def topk(site: Site) -> Sequence[ir.Value]:
    """The k largest, or smallest, and where they are; torch leaves the order of equals open."""
    held = site.meta("self")
    if not held.dtype.is_floating_point or not held.shape:
        raise Opaque("it chooses among integers, or of a number")
    return site.several(
        "TopK",
        site.tensor("self"),
        site.constant([int(site.number("k"))]),
        outputs=2,
        axis=site.axis("dim", len(held.shape)) - len(held.shape),
        largest=int(site.number("largest")),
        sorted=int(site.number("sorted")),
    )


@writes("TopK")
def write_topk(emit: Emitter, node: ir.Node) -> Any:
    """The same; ONNX's first of equals is one of torch's."""
    own = {name: attribute.as_int() for name, attribute in node.attributes.items()}
    (k,) = emit.integers(node.inputs[1])
    flags = (bool(own.get(name, 1)) for name in ("largest", "sorted"))
    pair = emit.call("aten.topk.default", emit.operand(node.inputs[0]), k, own.get("axis", -1), *flags)
    return [emit.call_target(getitem, pair, index) for index in range(len(node.outputs))]


@writes(*_WRITTEN)
def write_over_axes(emit: Emitter, node: ir.Node) -> Any:
    """A reduction."""
    keep = bool(node.attributes["keepdims"].as_int()) if "keepdims" in node.attributes else True
    x = emit.operand(node.inputs[0])
    axes = emit.integers(node.inputs[1]) if len(node.inputs) > 1 else list(range(emit.rank(node.inputs[0])))
    return emit.call(_WRITTEN[node.op_type], x, axes, keep)


@writes("Softmax", "LogSoftmax")
def write_softmax(emit: Emitter, node: ir.Node) -> Any:
    """Softmax along an axis."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    name = "aten.softmax.int" if node.op_type == "Softmax" else "aten.log_softmax.int"
    return emit.call(name, emit.operand(node.inputs[0]), axis)
