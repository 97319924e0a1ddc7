"""Norms of either kind whose scale, epsilon or second operand is not what the operation takes."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx

from .case import NearMiss, Sketch
from .norm_parts import GAMMA, SHAPE, WIDTH

EPSILON = 1e-3
OPERATIONS = {"layer_norm": "LayerNormalization", "rms_norm": "RMSNormalization"}


def mean(s: Sketch, x: str, axis: int, keepdims: int = 1) -> str:
    return s.ReduceMean(x, axes=[axis], keepdims=keepdims)


def centred(s: Sketch, kind: str, x: str, axis: int, keepdims: int = 1) -> str:
    return s.Sub(x, mean(s, x, axis, keepdims)) if kind == "layer_norm" else x


def norm(
    kind: str,
    *,
    gamma: np.ndarray = GAMMA,
    shape: Sequence[int] = SHAPE,
    axis: int = -1,
    keepdims: int = 1,
    epsilon: str | None = None,
    other: str | None = None,
    mean_of: str | None = None,
) -> onnx.ModelProto:
    """The norm of x over an axis; a named epsilon, or the value that a statistic is of, is another input."""
    s = Sketch()
    x = s.input("x", shape)
    off = s.Sub(x, mean(s, s.input(mean_of, shape), axis)) if mean_of else None
    off = off or centred(s, kind, x, axis, keepdims)
    spread = centred(s, kind, s.input(other, shape), axis) if other else off
    spread = centred(s, kind, x, axis) if mean_of else spread
    added = s.input(epsilon, []) if epsilon else s.const(EPSILON)
    root = s.Sqrt(s.Add(mean(s, s.Mul(spread, spread), axis, keepdims), added))
    return s.model(s.Mul(s.Div(off, root), s.const(gamma), name="y"))


def near_miss(
    kind: str, name: str, why: str, build: Callable[..., onnx.ModelProto], **rest: object
) -> NearMiss:
    return NearMiss(f"not_{kind}_{name}", partial(build, kind), OPERATIONS[kind], why, **rest)


NEAR_MISSES = [
    case
    for kind in OPERATIONS
    for case in (
        near_miss(
            kind,
            "axis_dropped_on_a_square",
            "keepdims is 0: rows meet the statistics of columns",
            partial(norm, shape=(WIDTH, WIDTH), keepdims=0),
        ),
        near_miss(
            kind,
            "epsilon_is_an_input",
            "epsilon is not a constant",
            partial(norm, epsilon="epsilon"),
            differs=False,
        ),
        near_miss(
            kind,
            "spread_of_another_input",
            "the denominator is that of another value",
            partial(norm, other="z"),
        ),
        near_miss(
            kind,
            "gamma_along_the_sequence",
            "gamma varies along an axis that is not normalised",
            partial(norm, gamma=np.linspace(0.5, 2, SHAPE[1]).reshape(-1, 1)),
            anchor="y",
        ),
        near_miss(
            kind,
            "gamma_along_the_last_axis_only",
            "the norm runs over the sequence and gamma varies along the channels",
            partial(norm, axis=1),
            anchor="y",
        ),
        near_miss(
            kind,
            "gamma_that_adds_an_axis",
            "the product with gamma has another shape than x",
            partial(norm, gamma=np.linspace(0.5, 2, 3 * WIDTH).reshape(3, 1, 1, WIDTH)),
            anchor="y",
        ),
    )
] + [
    near_miss(
        "layer_norm",
        "mean_of_another_input",
        "the mean is that of another value",
        partial(norm, mean_of="z"),
    )
]
