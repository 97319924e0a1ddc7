"""Norms over trailing axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.site import Opaque, Operand, Site
from tautomer.graph.fx.sizes import element_type
from tautomer.graph.fx.table import reads, writes

_FLOAT = int(ir.DataType.FLOAT)


def _row(site: Site) -> list[int]:
    """The sizes of a row."""
    return [int(size) for size in site.number("normalized_shape")]


def _scale(site: Site, row: list[int]) -> Operand | ir.Value:
    """The gain, or ones where there is none."""
    given = site.optional("weight")
    if given is not None:
        return given
    dtype = element_type(site.result.dtype)
    assert dtype is not None
    return site.constant(np.ones(row), dtype.numpy())


@reads("aten.layer_norm.default")
def layer_norm(site: Site) -> ir.Value:
    """(x - mean x) / sqrt(var x + eps) * weight + bias, in float32 or wider."""
    site.of_one_type("input", "weight", "bias")
    row, bias = _row(site), site.optional("bias")
    return site.op(
        "LayerNormalization",
        site.tensor("input"),
        _scale(site, row),
        *([] if bias is None else [bias]),
        axis=-len(row),
        epsilon=float(site.number("eps")),
        stash_type=_FLOAT if site.result.element_size() < 8 else int(ir.DataType.DOUBLE),
    )


@reads("aten.group_norm.default")
def group_norm(site: Site) -> ir.Value:
    """The same over groups of channels, with a gain and a bias for each channel."""
    site.of_one_type("input", "weight", "bias")
    channels = site.shape[1]
    if not isinstance(channels, int):
        raise Opaque("the number of its channels is open")
    dtype = element_type(site.result.dtype)
    assert dtype is not None
    bias = site.optional("bias") or site.constant(np.zeros(channels), dtype.numpy())
    return site.op(
        "GroupNormalization",
        site.tensor("input"),
        _scale(site, [channels]),
        bias,
        num_groups=int(site.number("num_groups")),
        epsilon=float(site.number("eps")),
        stash_type=_FLOAT if site.result.element_size() < 8 else int(ir.DataType.DOUBLE),
    )


@reads("aten.rms_norm.default")
def rms_norm(site: Site) -> ir.Value:
    """x / sqrt(mean x^2 + eps) * weight, in float32 or wider."""
    site.of_one_type("input", "weight")
    row, epsilon = _row(site), site.number("eps")
    if epsilon is None:
        if site.result.element_size() < 4:
            raise Opaque("its epsilon is left to torch")
        dtype = element_type(site.result.dtype)
        assert dtype is not None
        epsilon = float(np.finfo(dtype.numpy()).eps)
    return site.op(
        "RMSNormalization",
        site.tensor("input"),
        _scale(site, row),
        axis=-len(row),
        epsilon=float(epsilon),
        stash_type=_FLOAT if site.result.element_size() < 8 else int(ir.DataType.DOUBLE),
    )


@writes("LayerNormalization")
def write_layer_norm(emit: Emitter, node: ir.Node) -> Any:
    """layer_norm."""
    row = _row_of(emit, node)
    operands = [
        emit.none_if(value, neutral) for value, neutral in zip(node.inputs[1:], (1.0, 0.0), strict=False)
    ]
    operands += [None] * (2 - len(operands))
    epsilon = _epsilon(node)
    return emit.call("aten.layer_norm.default", emit.operand(node.inputs[0]), row, *operands, epsilon)


@writes("RMSNormalization")
def write_rms_norm(emit: Emitter, node: ir.Node) -> Any:
    """rms_norm."""
    scale = emit.none_if(node.inputs[1], 1.0)
    row, x = _row_of(emit, node), emit.operand(node.inputs[0])
    return emit.call("aten.rms_norm.default", x, row, scale, _epsilon(node))


def _epsilon(node: ir.Node) -> float:
    """As somebody would write it: the shortest decimal that is the same float32."""
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    single = np.float32(epsilon)
    return float(np.format_float_scientific(single)) if single == epsilon else epsilon


def _row_of(emit: Emitter, node: ir.Node) -> list[int]:
    """The sizes of a row, which are those of the gain."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    sizes = emit.shape(node.inputs[0])
    return sizes[axis:]


@writes("GroupNormalization")
def write_group_norm(emit: Emitter, node: ir.Node) -> Any:
    """Group norm."""
    groups = node.attributes["num_groups"].as_int()
    epsilon = node.attributes["epsilon"].as_float()
    x, scale, bias = (emit.operand(value) for value in node.inputs)
    return emit.call("aten.group_norm.default", x, groups, scale, bias, epsilon)
