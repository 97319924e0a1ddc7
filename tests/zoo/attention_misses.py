"""Not score(scale q k^T + mask) v: what lies between the two products is not a score function of the keys."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from .case import NearMiss, Sketch

DEPTH = LENGTH = 5
SHAPE = (2, 3, LENGTH, DEPTH)
SCALE = DEPTH**-0.5
Step = Callable[[Sketch, str], str]


def model(step: Step, *, extra: tuple[str, str] | None = None) -> onnx.ModelProto:
    """The weights are a step on the scaled scores."""
    s = Sketch()
    q, k, v = (s.input(name, SHAPE) for name in "qkv")
    if extra:
        s.input(extra[0], (2, 1, LENGTH, LENGTH), extra[1])
    scores = s.Mul(s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2])), SCALE)
    return s.model(s.MatMul(step(s, scores), v, name="y"))


def softmax(s: Sketch, x: str) -> str:
    return s.Softmax(x, axis=-1)


def jointly(s: Sketch, x: str) -> str:
    e = s.Exp(s.Sub(x, s.ReduceMax(x, axes=[-2, -1])))
    return s.Div(e, s.ReduceSum(e, axes=[-2, -1]))


def base_two(s: Sketch, x: str) -> str:
    e = s.Pow(2.0, s.Sub(x, s.ReduceMax(x, axes=[-1])))
    return s.Div(e, s.Add(s.ReduceSum(e, axes=[-1]), 0.1))


def with_epsilon(s: Sketch, x: str) -> str:
    e = s.Exp(s.Sub(x, s.ReduceMax(x, axes=[-1])))
    return s.Div(e, s.Add(s.ReduceSum(e, axes=[-1]), 1e-3))


def rounded(s: Sketch, x: str) -> str:
    return s.Cast(s.Cast(softmax(s, x), to="float16"), to="float32")


def elementwise() -> onnx.ModelProto:
    """The weights multiply v element by element."""
    s = Sketch()
    q, k, v = (s.input(name, SHAPE) for name in "qkv")
    scores = s.Mul(s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2])), SCALE)
    return s.model(s.Mul(softmax(s, scores), v, name="y"))


def summed() -> onnx.ModelProto:
    """q + k in place of their product."""
    s = Sketch()
    q, k, v = (s.input(name, SHAPE) for name in "qkv")
    return s.model(s.MatMul(softmax(s, s.Mul(s.Add(q, k), SCALE)), v, name="y"))


TWO_DIMENSIONAL = 1 + np.outer(np.arange(LENGTH), np.arange(LENGTH)) / 10

TABLE: dict[str, tuple[Step, str, dict[str, object]]] = {
    "softmax_over_the_queries": (
        lambda s, x: s.Softmax(x, axis=-2),
        "the softmax runs over the queries",
        {},
    ),
    "softmax_over_both": (jointly, "the softmax runs over queries and keys together", {}),
    "softmax_over_the_heads": (lambda s, x: s.Softmax(x, axis=1), "the softmax runs over the heads", {}),
    "other_denominator": (base_two, "the base is 2 and 0.1 is added to the sum", {}),
    "epsilon_in_the_denominator": (with_epsilon, "0.001 is added to the sum", {}),
    "mask_after_the_softmax": (
        lambda s, x: s.Mul(softmax(s, x), s.Cast("allowed", to="float32")),
        "the mask multiplies the weights, which then do not sum to 1",
        {"extra": ("allowed", "bool")},
    ),
    "where_after_the_softmax": (
        lambda s, x: s.Where("allowed", softmax(s, x), 0.0),
        "the mask removes weights, and the rest do not sum to 1",
        {"extra": ("allowed", "bool")},
    ),
    "masked_scores_are_0": (
        lambda s, x: softmax(s, s.Where("allowed", x, 0.0)),
        "a masked score is 0 and keeps a weight",
        {"extra": ("allowed", "bool")},
    ),
    "mask_multiplies_the_scores": (
        lambda s, x: softmax(s, s.Mul(x, "mask")),
        "the mask multiplies the scores",
        {"extra": ("mask", "float32")},
    ),
    "mask_added_to_the_weights": (
        lambda s, x: s.Add(softmax(s, x), "mask"),
        "the mask is added to the weights",
        {"extra": ("mask", "float32")},
    ),
    "scale_per_pair": (
        lambda s, x: softmax(s, s.Mul(x, s.const(TWO_DIMENSIONAL))),
        "each pair of a query and a key has a scale of its own",
        {},
    ),
    "tanh": (lambda s, x: s.Tanh(x), "tanh is no score function", {}),
    "squared_scores": (lambda s, x: softmax(s, s.Mul(x, x)), "the scores are squared", {}),
    "squared_weights": (lambda s, x: s.Pow(softmax(s, x), 2.0), "the weights are squared", {}),
    "softmax_twice": (lambda s, x: softmax(s, softmax(s, x)), "there are two softmaxes", {}),
    "weights_less_their_mean": (
        lambda s, x: s.Sub(softmax(s, x), 1 / LENGTH),
        "a constant is subtracted from the weights",
        {},
    ),
    "shrunk_weights": (lambda s, x: s.Mul(softmax(s, x), 0.9), "the weights sum to 0.9", {}),
    "log_weights": (lambda s, x: s.LogSoftmax(x, axis=-1), "the weights are logarithms", {}),
    "sigmoid_twice_as_large": (lambda s, x: s.Mul(s.Sigmoid(x), 2.0), "the sigmoid is doubled", {}),
    "rounded_to_half": (rounded, "the weights are rounded to float16", {}),
}

NEAR_MISSES = [
    *(
        NearMiss(f"not_attention_{name}", partial(model, step, **options), "ScoreAttention", why)
        for name, (step, why, options) in TABLE.items()
    ),
    NearMiss("not_attention_elementwise", elementwise, "ScoreAttention", "the weights meet v one by one"),
    NearMiss("not_attention_of_a_sum", summed, "ScoreAttention", "q and k are added and not multiplied"),
]
