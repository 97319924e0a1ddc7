"""Rectifiers with a shift, a threshold or a bound, of the layer or of each neuron, and those that shrink."""

from functools import partial

import numpy as np

from .case import Sketch
from .channels import V, sigmoid
from .unary import Entry, near_misses, spellings

WIDE = V.astype(float)


def number(s: Sketch, bound: object) -> object:
    return bound if isinstance(bound, float) else s.const(bound)


def hybrid(s: Sketch, x: str, bound: object) -> str:
    fall = s.Sigmoid(s.Mul(s.Sub(x, number(s, bound)), 20.0))
    return s.Max(s.Sub(x, s.Mul(x, fall)), 0.0)


def bounded(s: Sketch, x: str, bound: object) -> str:
    return s.Relu(s.Where(s.Greater(x, number(s, bound)), 0.0, x))


def clipped(s: Sketch, x: str) -> str:
    bound = s.const(V)
    return s.Relu(s.Where(s.Greater(x, bound), bound, x))


def shrunk(s: Sketch, x: str, less: float) -> str:
    below = s.Where(s.Less(x, -0.5), s.Add(x, less), 0.0)
    return s.Where(s.Greater(x, 0.5), s.Sub(x, less), below)


def fallen(x: np.ndarray, bound: object) -> np.ndarray:
    return np.maximum(x - x * sigmoid(20.0 * (x - bound)), 0)


def up_to(x: np.ndarray, bound: object) -> np.ndarray:
    return np.where(x > bound, 0, np.maximum(x, 0))


def outside(x: np.ndarray, less: float) -> np.ndarray:
    return np.where(np.abs(x) > 0.5, x - less * np.sign(x), 0)


HYBRID: dict[str, Entry] = {
    "neurons": lambda s, x: hybrid(s, x, V),
    "layer": (lambda s, x: hybrid(s, x, 0.75), {"wanted": partial(fallen, bound=0.75)}),
}
BOUNDED: dict[str, Entry] = {
    "neurons": lambda s, x: bounded(s, x, V),
    "layer": (lambda s, x: bounded(s, x, 0.75), {"wanted": partial(up_to, bound=0.75)}),
}
CLIPPED: dict[str, Entry] = {
    "neurons": clipped,
    "limits": lambda s, x: s.Max(s.Min(s.const(V), x), 0.0),
    "layer": (lambda s, x: s.Min(s.Relu(x), 0.75), {"wanted": lambda x: np.clip(x, 0, 0.75)}),
}
OF_HALF = {"wanted": lambda x: np.maximum(x - 0.5, 0)}
SHIFTED: dict[str, Entry] = {
    "neurons": lambda s, x: s.Relu(s.Sub(x, s.const(V))),
    "maximum": lambda s, x: s.Sub(s.Max(x, s.const(V, name="v")), "v"),
    "layer": (lambda s, x: s.Relu(s.Sub(x, 0.5)), OF_HALF),
    "negative_added": (lambda s, x: s.Relu(s.Add(x, -0.5)), OF_HALF),
    "negative_added_first": (lambda s, x: s.Max(s.Add(-0.5, x), 0.0), OF_HALF),
}
FAT: dict[str, Entry] = {
    "where": (lambda s, x: s.Where(s.GreaterOrEqual(x, 0.25), x, 0.0), {"opset": 16}),
    "below": lambda s, x: s.Where(s.Less(x, 0.25), 0.0, x),
    "mask_as_a_factor": lambda s, x: s.Mul(x, s.Cast(s.GreaterOrEqual(x, 0.25), to="float32")),
}
THRESHOLDED: dict[str, Entry] = {
    "where": lambda s, x: s.Where(s.Greater(x, 0.25), x, 0.0),
    "below": (lambda s, x: s.Where(s.LessOrEqual(x, 0.25), 0.0, x), {"opset": 16}),
    "as_one_node": lambda s, x: s.ThresholdedRelu(x, alpha=0.25),
}
SHRINK: dict[str, Entry] = {
    "soft": lambda s, x: shrunk(s, x, 0.5),
    "hard": (
        lambda s, x: shrunk(s, x, 0.0),
        {"attributes": {"lambd": 0.5, "bias": 0.0}, "wanted": partial(outside, less=0)},
    ),
    "as_one_node": lambda s, x: s.Shrink(x, lambd=0.5, bias=0.5),
}

SPELLINGS = [
    *spellings("HybridRelu", "hybrid_relu", partial(fallen, bound=WIDE), HYBRID, {"slope": 20.0}),
    *spellings("BoundedRelu", "bounded_relu", partial(up_to, bound=V), BOUNDED),
    *spellings("ClippedRelu", "clipped_relu", lambda x: np.clip(x, 0, V), CLIPPED),
    *spellings("ShiftedRelu", "shifted_relu", lambda x: np.maximum(x - V, 0), SHIFTED),
    *spellings("FatRelu", "fat_relu", lambda x: np.where(x >= 0.25, x, 0), FAT, {"threshold": 0.25}),
    *spellings(
        "ThresholdedRelu",
        "thresholded_relu",
        lambda x: np.where(x > 0.25, x, 0),
        THRESHOLDED,
        {"alpha": 0.25},
    ),
    *spellings("Shrink", "shrink", partial(outside, less=0.5), SHRINK, {"lambd": 0.5, "bias": 0.5}),
]

NEAR_MISSES = [
    *near_misses(
        "BoundedRelu",
        "bounded_relu",
        {
            "at_the_bound": (
                lambda s, x: s.Relu(s.Where(s.GreaterOrEqual(x, s.const(V)), 0.0, x)),
                "the bound itself falls, too",
            )
        },
    ),
    *near_misses(
        "ClippedRelu",
        "clipped_relu",
        {
            "absolute": (lambda s, x: s.Min(s.Abs(x), s.const(V)), "the size of x is bounded"),
            "bound_last": (
                lambda s, x: s.Min(s.Relu(x), s.const(V)),
                "a negative bound would be the result",
                {"allowed": ("Relu",)},
            ),
            "raised": (lambda s, x: s.Max(s.Min(x, s.const(V)), 0.1), "the lower limit is 0.1"),
            "falls": (
                lambda s, x: bounded(s, x, V),
                "above the bound it falls to 0",
                {"allowed": ("BoundedRelu",)},
            ),
        },
    ),
    *near_misses(
        "ShiftedRelu",
        "shifted_relu",
        {
            "shifted_behind": (
                lambda s, x: s.Sub(s.Relu(x), s.const(V)),
                "the maximum comes first",
                {"allowed": ("Relu",)},
            ),
            "not_shifted": (
                lambda s, x: s.Where(s.Greater(x, s.const(V)), x, 0.0),
                "above the shift x stays as it is",
            ),
            "of_a_bias": (
                lambda s, x: s.Relu(s.Add(x, s.const(V))),
                "a bias is added",
                {"allowed": ("Relu",)},
            ),
        },
    ),
    *near_misses(
        "FatRelu",
        "fat_relu",
        {
            "above": (
                lambda s, x: s.Where(s.Greater(x, 0.25), x, 0.0),
                "the threshold itself falls",
                {"allowed": ("ThresholdedRelu",)},
            )
        },
    ),
    *near_misses(
        "ThresholdedRelu",
        "thresholded_relu",
        {
            "from_on": (
                lambda s, x: s.Where(s.GreaterOrEqual(x, 0.25), x, 0.0),
                "the threshold itself stays",
                {"allowed": ("FatRelu",)},
            )
        },
    ),
    *near_misses(
        "Shrink",
        "shrink",
        {
            "of_one_side": (lambda s, x: s.Where(s.Greater(x, 0.5), s.Sub(x, 0.5), x), "below -1/2 x stays"),
            "gap": (
                lambda s, x: s.Where(s.Greater(s.Abs(x), 0.5), s.Sub(x, 0.25), 0.0),
                "below -1/2 the bias is taken off, too",
            ),
        },
    ),
    *near_misses(
        "HybridRelu",
        "hybrid_relu",
        {
            "rising": (
                lambda s, x: s.Max(s.Mul(x, s.Sigmoid(s.Mul(s.Sub(x, s.const(V)), 20.0))), 0.0),
                "it rises above the bound",
            )
        },
    ),
]
