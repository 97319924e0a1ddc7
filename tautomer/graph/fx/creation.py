"""Tensors that are made of numbers: filled ones, progressions, triangles of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.site import Opaque, Operand, Site
from tautomer.graph.fx.sizes import element_type
from tautomer.graph.fx.table import reads, writes


@reads(
    *("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default"),
    *("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default"),
)
def ones_or_zeros(site: Site) -> ir.Value:
    """One number everywhere, which the name says."""
    return _filled(site, float("ones" in str(site.fx.target)))


@reads("aten.full.default", "aten.full_like.default", "aten.new_full.default")
def full(site: Site) -> ir.Value:
    """One number everywhere."""
    return _filled(site, site.number("fill_value"))


@reads("aten.scalar_tensor.default")
def scalar(site: Site) -> ir.Value:
    """A number."""
    return _filled(site, site.number("s"))


def _filled(site: Site, number: Any) -> ir.Value:
    x = site.constant(number, _dtype(site))
    return site.op("Expand", x, site.sizes(site.shape)) if len(site.shape) else site.op("Identity", x)


@reads("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def progression(site: Site) -> ir.Value:
    """start, start + step, and so on below end."""
    dtype = _dtype(site)

    def bound(name: str, number: int) -> ir.Value:
        held = site.given(name) if name in site.attributes else number
        if not hasattr(held, "meta"):
            return site.constant(held, dtype)
        size = site.op("Squeeze", site.sizes([held.meta["val"]]), site.constant([0]))
        return size if dtype == np.int64 else site.op("Cast", size, to=int(ir.DataType.from_numpy(dtype)))

    if dtype not in (np.int64, np.int32, np.float32, np.float64):
        raise Opaque(f"there is no progression of {dtype}")
    return site.op("Range", bound("start", 0), bound("end", 0), bound("step", 1))


@reads("aten.vander.default", "aten.linalg_vander.default")
def powers(site: Site) -> ir.Value:
    """1, x, x x and so on along a new last axis, each the one before times x; or the other way round."""
    site.of_floats()
    site.of_one_type("x")
    count = site.shape[-1]
    if not isinstance(count, int) or count < 2:
        raise Opaque("the number of its powers is open, or below 2")
    x, last = site.tensor("x"), site.constant([-1])
    each = [site.op("Expand", site.constant(1.0, _dtype(site)), site.sizes([*site.shape[:-1], 1]))]
    power: Operand | ir.Value = x
    for _ in range(count - 2):
        each.append(site.op("Unsqueeze", power, last))
        power = site.op("Mul", power, x)
    each.append(site.op("Unsqueeze", power, last))
    increasing = "linalg" in str(site.fx.target) or site.number("increasing")
    return site.op("Concat", *(each if increasing else reversed(each)), axis=-1)


@reads("aten.tril.default", "aten.triu.default")
def triangle(site: Site) -> ir.Value:
    """One side of a diagonal, and 0 on the other."""
    diagonal = site.constant(int(site.number("diagonal")))
    return site.op("Trilu", site.tensor("self"), diagonal, upper=int("triu" in str(site.fx.target)))


@reads("aten.logical_not.default", "aten.bitwise_not.default")
def negation(site: Site) -> ir.Value:
    """Not, of truths."""
    return site.op("Not", *_truths(site, "self"))


@reads("aten.logical_and.default", "aten.bitwise_and.Tensor", "aten.__and__.Tensor")
def both(site: Site) -> ir.Value:
    """And, of truths."""
    return site.op("And", *_truths(site, "self", "other"))


@reads("aten.logical_or.default", "aten.bitwise_or.Tensor", "aten.__or__.Tensor")
def either(site: Site) -> ir.Value:
    """Or, of truths."""
    return site.op("Or", *_truths(site, "self", "other"))


@reads("aten.isnan.default")
def not_a_number(site: Site) -> ir.Value:
    """Where a float is none."""
    if not site.meta("self").dtype.is_floating_point:
        raise Opaque("it asks integers")
    return site.op("IsNaN", site.tensor("self"))


def _truths(site: Site, *names: str) -> list[Operand]:
    if any(element_type(site.meta(name).dtype) != ir.DataType.BOOL for name in names):
        raise Opaque("it works on bits of numbers")
    return [site.tensor(name) for name in names]


def _dtype(site: Site) -> Any:
    dtype = element_type(site.result.dtype)
    assert dtype is not None
    return dtype.numpy()


@writes("Not")
def write_negation(emit: Emitter, node: ir.Node) -> Any:
    """Not."""
    return emit.call("aten.logical_not.default", emit.operand(node.inputs[0]))


@writes("And", "Or")
def write_connective(emit: Emitter, node: ir.Node) -> Any:
    """And, or."""
    name = f"aten.logical_{node.op_type.lower()}.default"
    return emit.call(name, *(emit.operand(value) for value in node.inputs))
