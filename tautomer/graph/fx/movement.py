"""Operators that only move elements."""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import onnx_ir as ir

from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.site import Opaque, Operand, Site
from tautomer.graph.fx.sizes import element_type
from tautomer.graph.fx.table import reads, writes

_END = (1 << 63) - 1
_INDICES = (ir.DataType.INT64, ir.DataType.INT32)


@reads(
    *("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints"),
    *("aten.unflatten.int", "aten.view_as.default", "aten.reshape_as.default"),
)
def reshape(site: Site) -> ir.Value:
    """Reshape to the sizes of the result."""
    return site.op("Reshape", site.tensor("self"), site.sizes(site.shape))


@reads("aten.unsqueeze.default")
def unsqueeze(site: Site) -> ir.Value:
    """A new axis of 1."""
    return site.op("Unsqueeze", site.tensor("self"), site.constant([site.axis("dim", len(site.shape))]))


@reads("aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(site: Site) -> ir.Value | Operand:
    """Without axes of 1; an axis of another size stays."""
    before = site.meta("self").shape
    axes = site.number("dim")
    axes = [axis % len(before) for axis in ([axes] if isinstance(axes, int) else axes)] if before else []
    gone = [axis for axis in axes if not hasattr(before[axis], "node") and before[axis] == 1]
    if len(before) - len(gone) != len(site.shape):
        raise Opaque("which axes go depends on sizes")
    if not gone:
        return site.tensor("self")
    return site.op("Squeeze", site.tensor("self"), site.constant(gone))


@reads("aten.transpose.int", "aten.permute.default", "aten.t.default", "aten.numpy_T.default")
def permute(site: Site) -> ir.Value:
    """Transpose."""
    rank, name = len(site.shape), str(site.fx.target)
    order = list(range(rank))
    if name == "aten.permute.default":
        order = [axis % rank for axis in site.number("dims")]
    elif name == "aten.transpose.int" and rank:
        first, second = site.axis("dim0", rank), site.axis("dim1", rank)
        order[first], order[second] = order[second], order[first]
    else:
        order.reverse()
    return site.op("Transpose", site.tensor("self"), perm=order)


@reads("aten.expand.default", "aten.expand_as.default")
def expand(site: Site) -> ir.Value:
    """Expand to the sizes of the result."""
    return site.op("Expand", site.tensor("self"), site.sizes(site.shape))


@reads("aten.slice.Tensor")
def a_slice(site: Site) -> ir.Value:
    """Part of an axis."""
    before = site.meta("self").shape
    axis = site.axis("dim", len(before))
    step = int(site.number("step"))
    start, end = site.given("start") or 0, site.given("end")
    bounds = [site.sizes([_extent(bound)]) for bound in (start, _END if end is None else end)]
    return site.op("Slice", site.tensor("self"), *bounds, site.constant([axis]), site.constant([step]))


def _extent(bound: Any) -> Any:
    """A number, or the symbolic size that a node of the graph is."""
    return bound if isinstance(bound, int) else bound.meta["val"]


@reads("aten.select.int")
def select(site: Site) -> ir.Value:
    """One index of an axis, which goes."""
    before = site.meta("self").shape
    index = site.constant(int(site.number("index")))
    return site.op("Gather", site.tensor("self"), index, axis=site.axis("dim", len(before)))


@reads("aten.cat.default")
def concatenate(site: Site) -> ir.Value:
    """Concat of tensors of one type."""
    tensors = site.tensors("tensors")
    held = [each.meta["val"] for each in site.given("tensors")]
    if any(x.dtype != site.result.dtype or len(x.shape) != len(site.shape) for x in held):
        raise Opaque("it joins tensors of several kinds")
    return site.op("Concat", *tensors.values(), axis=site.axis("dim", len(site.shape)))


@reads("aten.stack.default")
def stack(site: Site) -> ir.Value:
    """Concat along a new axis."""
    tensors = site.tensors("tensors")
    if any(each.meta["val"].dtype != site.result.dtype for each in site.given("tensors")):
        raise Opaque("it joins tensors of several kinds")
    axis = site.axis("dim", len(site.shape))
    each = [site.op("Unsqueeze", one, site.constant([axis])) for one in tensors.values()]
    return site.op("Concat", *each, axis=axis)


@reads("aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default")
def split(site: Site) -> Sequence[ir.Value]:
    """Split into parts of these sizes."""
    parts = site.result
    axis = site.axis("dim", len(site.meta("self").shape))
    sizes = site.sizes([part.shape[axis] for part in parts])
    return site.several("Split", site.tensor("self"), sizes, outputs=len(parts), axis=axis)


@reads("aten.unbind.int")
def unbind(site: Site) -> Sequence[ir.Value]:
    """Each index of an axis, which goes."""
    before = site.meta("self").shape
    x, axis = site.tensor("self"), site.axis("dim", len(before))
    if not site.result:
        raise Opaque("there is nothing in it")
    return [site.op("Gather", x, site.constant(index), axis=axis) for index in range(len(site.result))]


@reads("aten.index.Tensor")
def index(site: Site) -> ir.Value:
    """Gather by one tensor of indices, GatherND by one for each of the first axes."""
    indices = site.tensors("indices")
    given = [each for each in site.given("indices") if each is not None]
    if any(element_type(each.meta["val"].dtype) not in _INDICES for each in given):
        raise Opaque("its indices are a mask")
    if len(indices) == 1:
        ((axis, where),) = indices.items()
        return site.op("Gather", site.tensor("self"), where, axis=axis)
    if list(indices) != list(range(len(indices))):
        raise Opaque("its indices are not those of the first axes")
    rank = len(site.shape) - len(site.meta("self").shape) + len(indices)
    sizes, last = site.sizes(site.shape[:rank]), site.constant([rank])
    each = [site.op("Unsqueeze", site.op("Expand", where, sizes), last) for where in indices.values()]
    return site.op("GatherND", site.tensor("self"), site.op("Concat", *each, axis=-1))


@reads("aten.pad.default", "aten.constant_pad_nd.default")
def pad(site: Site) -> ir.Value:
    """Pad with a number."""
    if "mode" in site.attributes:
        site.expect(mode="constant")
    widths = list(site.number("pad"))
    rank = len(site.shape)
    before, after = [0] * rank, [0] * rank
    for place in range(len(widths) // 2):
        before[rank - 1 - place], after[rank - 1 - place] = widths[2 * place], widths[2 * place + 1]
    if min(*before, *after, 0) < 0:
        raise Opaque("it cuts off")
    value = site.rounded("value") if site.number("value") is not None else None
    pads = site.constant([*before, *after])
    return site.op("Pad", site.tensor("self"), pads, *([] if value is None else [value]))


@reads("aten.roll.default")
def roll(site: Site) -> ir.Value | Operand:
    """Two slices of each axis, exchanged."""
    x: ir.Value | Operand = site.tensor("self")
    shape = site.shape
    for shift, dim in zip(site.number("shifts"), site.number("dims"), strict=True):
        axis = dim % len(shape)
        if not isinstance(shape[axis], int):
            raise Opaque("it turns an axis of open size")
        cut = -shift % shape[axis] if shape[axis] else 0
        axes = site.constant([axis])
        head = site.op("Slice", x, site.constant([0]), site.constant([cut]), axes)
        tail = site.op("Slice", x, site.constant([cut]), site.constant([_END]), axes)
        x = site.op("Concat", tail, head, axis=axis)
    return x


@writes("Reshape")
def write_reshape(emit: Emitter, node: ir.Node) -> Any:
    """Never a view: what stands in front of it may have other strides now."""
    return emit.call("aten.reshape.default", emit.operand(node.inputs[0]), emit.integers(node.inputs[1]))


@writes("Transpose")
def write_transpose(emit: Emitter, node: ir.Node) -> Any:
    """A permutation."""
    order = list(node.attributes["perm"].as_ints())
    return emit.call("aten.permute.default", emit.operand(node.inputs[0]), order)


@writes("Unsqueeze")
def write_unsqueeze(emit: Emitter, node: ir.Node) -> Any:
    """One axis after the other, from the front."""
    x = emit.operand(node.inputs[0])
    for axis in sorted(emit.integers(node.inputs[1])):
        x = emit.call("aten.unsqueeze.default", x, axis)
    return x


@writes("Squeeze")
def write_squeeze(emit: Emitter, node: ir.Node) -> Any:
    """Without these axes."""
    return emit.call("aten.squeeze.dims", emit.operand(node.inputs[0]), emit.integers(node.inputs[1]))


@writes("Expand")
def write_expand(emit: Emitter, node: ir.Node) -> Any:
    """Expand."""
    return emit.call("aten.expand.default", emit.operand(node.inputs[0]), emit.integers(node.inputs[1]))


@writes("Shape")
def write_shape(emit: Emitter, node: ir.Node) -> Any:
    """Sizes, as numbers."""
    return tuple(emit.integers(node.outputs[0]))


@writes("Slice")
def write_slice(emit: Emitter, node: ir.Node) -> Any:
    """One axis after the other."""
    x, *given = node.inputs
    starts, ends, *rest = (emit.integers(value) for value in given)
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    result = emit.operand(x)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        result = emit.call("aten.slice.Tensor", result, axis, start, end, step)
    return result


@writes("Split")
def write_split(emit: Emitter, node: ir.Node) -> Any:
    """Parts of these sizes."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    x, sizes = emit.operand(node.inputs[0]), emit.integers(node.inputs[1])
    parts = emit.call("aten.split_with_sizes.default", x, sizes, axis)
    return [emit.call_target(getitem, parts, index) for index in range(len(node.outputs))]


@writes("Concat")
def write_concat(emit: Emitter, node: ir.Node) -> Any:
    """Cat."""
    operands = [emit.operand(value) for value in node.inputs]
    return emit.call("aten.cat.default", operands, node.attributes["axis"].as_int())
