"""Variances, and norms by statistics of a batch or of the channels of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.site import Opaque, Operand, Site
from tautomer.graph.fx.sizes import element_type
from tautomer.graph.fx.table import reads, writes


@reads("aten.var.dim", "aten.var.correction")
def variance(site: Site) -> ir.Value:
    """mean((x - mean x)^2), the sum of squares divided by their number."""
    site.of_floats()
    divided = site.attributes.get("unbiased", True)
    divided = site.number("correction") if "correction" in site.attributes else divided
    if divided is None or divided:
        raise Opaque("it divides by one less than there are")
    axes = _axes(site)
    x, keep = site.tensor("self"), int(site.number("keepdim"))
    centred = site.op("Sub", x, site.op("ReduceMean", x.value, axes, keepdims=1))
    return site.op("ReduceMean", site.op("Mul", centred, centred), axes, keepdims=keep)


def _axes(site: Site) -> ir.Value:
    rank = len(site.meta("self").shape)
    given = site.number("dim")
    axes = [given] if isinstance(given, int) else list(given or range(rank))
    if not axes:
        raise Opaque("it reduces a number")
    return site.constant([axis % rank - rank for axis in axes])


@reads("aten.batch_norm.default")
def batch_norm(site: Site) -> ir.Value:
    """(x - mean) / sqrt(variance + eps) * weight + bias for each channel, with stored statistics."""
    site.of_one_type("input", "weight", "bias", "running_mean", "running_var")
    if site.number("training"):
        raise Opaque("it takes its statistics from the batch, as in training")
    mean, var = site.optional("running_mean"), site.optional("running_var")
    if mean is None or var is None:
        raise Opaque("it has no stored statistics")
    affine = (_per_channel(site, name, number) for name, number in (("weight", 1.0), ("bias", 0.0)))
    x, epsilon = site.tensor("input"), float(site.number("eps"))
    return site.op("BatchNormalization", x, *affine, mean, var, epsilon=epsilon)


@reads("aten.instance_norm.default")
def instance_norm(site: Site) -> ir.Value:
    """The same with the statistics of each channel of each image."""
    site.of_one_type("input", "weight", "bias")
    if not site.number("use_input_stats"):
        raise Opaque("it has stored statistics")
    affine = (_per_channel(site, name, number) for name, number in (("weight", 1.0), ("bias", 0.0)))
    return site.op("InstanceNormalization", site.tensor("input"), *affine, epsilon=float(site.number("eps")))


def _per_channel(site: Site, name: str, absent: float) -> Operand | ir.Value:
    given, channels = site.optional(name), site.shape[1]
    if given is not None:
        return given
    dtype = element_type(site.result.dtype)
    if not isinstance(channels, int) or dtype is None:
        raise Opaque("the number of its channels is open")
    return site.constant(np.full(channels, absent), dtype.numpy())


@writes("BatchNormalization")
def write_batch_norm(emit: Emitter, node: ir.Node) -> Any:
    """Batch norm in evaluation."""
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    operands = [emit.operand(value) for value in node.inputs]
    return emit.call("aten.batch_norm.default", *operands, False, 0.0, epsilon, False)
