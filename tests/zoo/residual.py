"""A norm of the sum of two streams: norm(x + residual)."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from . import references as ref
from .case import Feeds, NearMiss, Sketch, Spelling
from .norm_parts import BETA, GAMMA, LAST, SHAPE, WIDTH

EPSILON = 1e-5
SQUARE = (3.0 * np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH) % 17 - 8) / 32
LAYER, RMS = "AddLayerNormalization", "AddRMSNormalization"

Norm = Callable[[Sketch, str], str]
Sum = Callable[[Sketch, str, str], str]


def layer_norm(s: Sketch, x: str) -> str:
    off = s.Sub(x, s.ReduceMean(x, axes=LAST))
    power = s.Add(s.ReduceMean(s.Mul(off, off), axes=LAST), EPSILON)
    return s.Add(s.Mul(s.Div(off, s.Sqrt(power)), s.const(GAMMA)), s.const(BETA))


def layer_norm_node(s: Sketch, x: str) -> str:
    return s.LayerNormalization(x, s.const(GAMMA), s.const(BETA), axis=-1, epsilon=EPSILON)


def rms_norm(s: Sketch, x: str) -> str:
    power = s.Add(s.ReduceMean(s.Pow(x, 2.0), axes=LAST), EPSILON)
    return s.Mul(s.const(GAMMA), s.Mul(x, s.Reciprocal(s.Sqrt(power))))


def rms_norm_node(s: Sketch, x: str) -> str:
    return s.RMSNormalization(x, s.const(GAMMA), axis=-1, epsilon=EPSILON)


def deviation_plus_epsilon(s: Sketch, x: str) -> str:
    root = s.Sqrt(s.ReduceMean(s.Mul(x, x), axes=LAST))
    return s.Mul(s.Div(x, s.Add(root, 1e-3)), s.const(GAMMA))


def plain(s: Sketch, x: str, r: str) -> str:
    return s.Add(x, r, name="sum")


def swapped(s: Sketch, x: str, r: str) -> str:
    return s.Add(r, x, name="sum")


def projected(s: Sketch, x: str, r: str) -> str:
    """The residual stream and a product of something else, with its bias."""
    return s.Add(s.Add(s.MatMul(x, s.const(SQUARE)), s.const(BETA)), r, name="sum")


def third(s: Sketch, x: str, r: str) -> str:
    return s.Add(s.Add(x, r), s.Abs(x), name="sum")


def model(join: Sum, norm: Norm, opset: int = 17, keep: str | None = None) -> onnx.ModelProto:
    s = Sketch()
    y = norm(s, join(s, s.input("x", SHAPE), s.input("r", SHAPE)))
    return s.model([s.renamed(y, "y"), *([keep] if keep else [])], opset)


def normalised(op: str, total: np.ndarray) -> np.ndarray:
    if op == LAYER:
        return ref.layer_norm(total, GAMMA, BETA, epsilon=EPSILON)
    return ref.rms_norm(total, GAMMA, epsilon=EPSILON)


SUMS: dict[Sum, Callable[[Feeds], np.ndarray]] = {
    plain: lambda fed: fed["x"] + fed["r"],
    swapped: lambda fed: fed["r"] + fed["x"],
    projected: lambda fed: fed["x"] @ SQUARE + BETA + fed["r"],
    third: lambda fed: fed["x"] + fed["r"] + np.abs(fed["x"]),
}


def spelling(op: str, name: str, join: Sum, norm: Norm, opset: int = 17, keep: str | None = None) -> Spelling:
    return Spelling(
        f"{'add_layer_norm' if op == LAYER else 'add_rms_norm'}_{name}",
        partial(model, join, norm, opset, keep),
        op,
        {"axis": -1, "epsilon": EPSILON},
        lambda fed: normalised(op, SUMS[join](fed)),
        keeps=(keep,) if keep else (),
    )


SPELLINGS = [
    spelling(LAYER, "plain", plain, layer_norm),
    spelling(LAYER, "swapped", swapped, layer_norm, 18),
    spelling(LAYER, "of_a_projection", projected, layer_norm),
    spelling(LAYER, "of_three", third, layer_norm),
    spelling(LAYER, "with_a_node", plain, layer_norm_node),
    spelling(LAYER, "of_a_projection_with_a_node", projected, layer_norm_node, 20),
    spelling(LAYER, "whose_sum_is_an_output", plain, layer_norm, 17, "sum"),
    spelling(LAYER, "with_a_node_whose_sum_is_an_output", plain, layer_norm_node, 17, "sum"),
    spelling(RMS, "plain", plain, rms_norm),
    spelling(RMS, "swapped", swapped, rms_norm, 18),
    spelling(RMS, "of_a_projection", projected, rms_norm, 11),
    spelling(RMS, "of_three", third, rms_norm),
    spelling(RMS, "with_a_node", plain, rms_norm_node, 23),
    spelling(RMS, "whose_sum_is_an_output", plain, rms_norm, 17, "sum"),
]

MISSES: list[tuple[str, str, Sum, Norm, str, int]] = [
    (LAYER, "difference", lambda s, x, r: s.Sub(x, r), layer_norm_node, "r is subtracted", 17),
    (LAYER, "product", lambda s, x, r: s.Mul(x, r), layer_norm_node, "r multiplies", 17),
    (LAYER, "maximum", lambda s, x, r: s.Max(x, r), layer_norm_node, "the larger of the two", 17),
    (
        LAYER,
        "norm_first",
        lambda s, x, r: s.Add(layer_norm_node(s, x), r),
        lambda s, x: x,
        "r is added after the norm",
        17,
    ),
    (RMS, "difference", lambda s, x, r: s.Sub(x, r), rms_norm_node, "r is subtracted", 23),
    (RMS, "product", lambda s, x, r: s.Mul(x, r), rms_norm_node, "r multiplies", 23),
    (RMS, "epsilon_outside", plain, deviation_plus_epsilon, "epsilon is added to the root", 17),
    (
        RMS,
        "norm_first",
        lambda s, x, r: s.Add(rms_norm_node(s, x), r),
        lambda s, x: x,
        "r is added after the norm",
        23,
    ),
]
INNER = {LAYER: ("LayerNormalization",), RMS: ("RMSNormalization",)}

NEAR_MISSES = [
    NearMiss(
        f"not_{'add_layer_norm' if op == LAYER else 'add_rms_norm'}_{name}",
        partial(model, join, norm, opset),
        op,
        why,
        () if norm is deviation_plus_epsilon else INNER[op],
    )
    for op, name, join, norm, why, opset in MISSES
]
