"""Attention as people write it: every score function, every kind of mask, every layout; and near misses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx

from tests.zoo.sketch import Sketch

BATCH, HEADS, LENGTH, DEPTH = 2, 2, 4, 3
SHAPE = (BATCH, HEADS, LENGTH, DEPTH)
LOWEST = float(np.finfo(np.float32).min)
TRIANGLE = np.tril(np.ones((LENGTH, LENGTH), bool))
WINDOW = TRIANGLE & np.triu(np.ones((LENGTH, LENGTH), bool), -1)
COUNTS = np.arange(1.0, LENGTH + 1.0).reshape(LENGTH, 1)
Weights = Callable[[Sketch, str], str]


def scores(s: Sketch, shape: tuple[int | str, ...] = SHAPE) -> tuple[str, str]:
    """q k^T / 2, and v."""
    q, k, v = (s.input(name, shape) for name in "qkv")
    return s.Mul(s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2])), 0.5), v


def attention(weights: Weights, opset: int = 18, shape: tuple[int | str, ...] = SHAPE) -> onnx.ModelProto:
    s = Sketch()
    x, v = scores(s, shape)
    return s.model(s.MatMul(weights(s, x), v, name="y"), opset)


def softmax(s: Sketch, x: str) -> str:
    return s.Softmax(x, axis=-1)


def allowed(s: Sketch, shape: tuple[int, ...] = (BATCH, 1, LENGTH, LENGTH)) -> str:
    return s.input("allowed", shape, "bool")


def plus_one(s: Sketch, x: str) -> str:
    top = s.Max(s.ReduceMax(x, s.const([-1])), 0.0)
    e = s.Exp(s.Sub(x, top))
    return s.Div(e, s.Add(s.Exp(s.Neg(top)), s.ReduceSum(e, s.const([-1]))))


def with_sinks(s: Sketch, x: str) -> str:
    """A learned score per head beside those of the keys, and its weight is dropped: as gpt-oss writes it."""
    sinks = s.const(np.array([0.5, -0.25]).reshape(1, HEADS, 1, 1))
    return beside(s, x, s.Expand(sinks, s.const([BATCH, HEADS, LENGTH, 1])))


def with_spread_sinks(s: Sketch, x: str) -> str:
    """The same of a length that is fixed: exporters spread the scores over queries themselves then."""
    spread = np.broadcast_to(np.array([0.5, -0.25]).reshape(1, HEADS, 1, 1), (BATCH, HEADS, LENGTH, 1))
    return beside(s, x, s.const(spread.astype(np.float32)))


def beside(s: Sketch, x: str, more: str) -> str:
    """Scores beside those of the keys, whose weight is dropped."""
    both = s.Concat(s.Add(x, s.const(np.where(TRIANGLE, 0.0, LOWEST))), more, axis=-1)
    shares = s.Softmax(s.Sub(both, s.ReduceMax(both, s.const([-1]))), axis=-1)
    return s.Slice(shares, s.const([0]), s.const([-1]), s.const([-1]))


def causal(s: Sketch, x: str) -> str:
    return s.Where(s.const(TRIANGLE), x, -np.inf)


def softplus_shares(s: Sketch, x: str, kept: str = "") -> str:
    """log(1 + e^s) of the keys before, divided by their sum."""
    a = s.Mul(s.Softplus(x), kept or s.const(TRIANGLE.astype(np.float32)))
    return s.Div(a, s.ReduceSum(a, s.const([-1])))


def triangle_shares(s: Sketch, x: str) -> str:
    a = s.Trilu(s.Softplus(x), upper=0)
    return s.Div(a, s.ReduceSum(a, s.const([-1])))


def with_lengths(s: Sketch, x: str) -> str:
    """Scores times the logarithm of how many keys there are: LSSA."""
    return softplus_shares(s, s.Mul(x, s.const(np.log(COUNTS + 1.0))))


def reweighted(s: Sketch, x: str, counts: np.ndarray = COUNTS) -> str:
    """relu(i a - 1)^3 divided by its sum; the first query has no offset, or nothing would be left."""
    a = softplus_shares(s, x)
    offset = s.const((COUNTS > 1.0).astype(np.float32))
    b = s.Pow(s.Relu(s.Sub(s.Mul(a, s.const(counts)), offset)), 3.0)
    return s.Div(b, s.ReduceSum(b, s.const([-1])))


def per_sequence(s: Sketch, x: str) -> str:
    return s.Sigmoid(s.Sub(x, s.input("log_lengths", (BATCH, 1, 1, 1))))


def guarded(s: Sketch, x: str, fill: float = -np.inf) -> str:
    p = softmax(s, s.Add(x, s.Where(allowed(s), 0.0, fill)))
    return s.Where(s.IsNaN(p), 0.0, p)


def capped(s: Sketch, x: str) -> str:
    return softmax(s, s.Mul(s.Tanh(s.Div(x, 5.0)), 5.0))


def alibi(s: Sketch, x: str) -> str:
    slopes = np.array([0.5, 0.25]).reshape(1, HEADS, 1, 1)
    behind = np.arange(LENGTH) - np.arange(LENGTH)[:, None]
    return softmax(s, s.Where(s.const(TRIANGLE), s.Add(x, s.const(slopes * behind)), -np.inf))


def added(s: Sketch, x: str, *shape: int) -> str:
    return s.Add(x, s.input("mask", shape or (BATCH, 1, LENGTH, LENGTH)))


WRITTEN: dict[str, tuple[Weights, str]] = {
    "softmax": (softmax, "softmax"),
    "softmax plus one": (plus_one, "softmax1"),
    "learned sinks": (with_sinks, "softmax1_additive_sink"),
    "learned sinks that the exporter spread": (with_spread_sinks, "softmax1_additive_sink"),
    "sigmoid less log n": (lambda s, x: s.Sigmoid(s.Sub(x, float(np.log(LENGTH)))), "sigmoid"),
    "sigmoid less log n of each sequence": (per_sequence, "sigmoid_additive"),
    "relu over n": (lambda s, x: s.Div(s.Relu(x), float(LENGTH)), "relu"),
    "causal relu over rows": (lambda s, x: s.Div(s.Relu(causal(s, x)), s.const(COUNTS + 1.0)), "relu_causal"),
    "squared relu of causal scores over rows": (
        lambda s, x: s.Pow(s.Relu(causal(s, s.Div(x, s.const(COUNTS)))), 2.0),
        "relu2_causal",
    ),
    "sigmoid by rows": (lambda s, x: s.Mul(s.const(1.0 / COUNTS), s.Sigmoid(x)), "sigmoid"),
    "masked relu over n": (lambda s, x: s.Div(s.Relu(added(s, x)), float(LENGTH)), "relu_additive"),
    "squared relu over n": (lambda s, x: s.Div(s.Pow(s.Relu(x), 2.0), float(LENGTH)), "relu2"),
    "relu of a triangle": (lambda s, x: s.Relu(s.Trilu(x, upper=0)), "relu_causalstart"),
    "a triangle of relu over rows": (
        lambda s, x: s.Div(s.Trilu(s.Relu(x), upper=0), s.const(COUNTS + 1.0)),
        "relu_causalstart",
    ),
    "a triangle of squared relu": (
        lambda s, x: s.Trilu(s.Div(s.Pow(s.Relu(x), 2.0), float(LENGTH)), s.const(0, "int64"), upper=0),
        "relu2_causalstart",
    ),
    "shares of a triangle of softplus": (triangle_shares, "softplus_causalstart"),
    "softplus of scaled scores": (with_lengths, "softplus_causal"),
    "softplus reweighted": (reweighted, "softplus_reweighted3_causal"),
    "causal by a sum": (
        lambda s, x: softmax(s, s.Add(x, s.const(np.where(TRIANGLE, 0.0, LOWEST)))),
        "softmax_causal",
    ),
    "causal by a choice": (
        lambda s, x: s.Sigmoid(s.Where(s.const(TRIANGLE), x, -np.inf)),
        "sigmoid_causal",
    ),
    "a window": (lambda s, x: softmax(s, s.Where(s.const(WINDOW), x, -np.inf)), "softmax_causal_window"),
    "a window by a finite number": (
        lambda s, x: softmax(s, s.Where(s.const(WINDOW), x, LOWEST)),
        "softmax_boolean_mean",
    ),
    "a boolean": (lambda s, x: softmax(s, s.Where(allowed(s), x, -np.inf)), "softmax_boolean"),
    "a boolean for keys": (
        lambda s, x: softmax(s, s.Where(s.Not(allowed(s, (BATCH, 1, 1, LENGTH))), LOWEST, x)),
        "softmax_boolean_mean",
    ),
    "a sum of a boolean": (
        lambda s, x: softmax(s, s.Add(x, s.Where(allowed(s), 0.0, -np.inf))),
        "softmax_boolean",
    ),
    "a sum": (lambda s, x: softmax(s, added(s, x)), "softmax_additive"),
    "ten thousand": (
        lambda s, x: softmax(s, s.Add(x, s.Where(allowed(s), 0.0, -10000.0))),
        "softmax_additive",
    ),
    "guarded": (guarded, "softmax_boolean_zero"),
    "guarded, with a finite number": (lambda s, x: guarded(s, x, LOWEST), "softmax_additive_zero"),
    "capped": (capped, "softmax_softcap"),
    "slopes": (alibi, "softmax_additive_causal"),
}


@dataclass(frozen=True)
class Miss:
    """What stays as it is, and a part of the reason."""

    weights: Weights
    reason: str
    shape: tuple[int | str, ...] = field(default=SHAPE)


def _rounded(s: Sketch, x: str) -> str:
    return s.Cast(s.Cast(softmax(s, x), to="float16"), to="float32")


def _two_masks(s: Sketch, x: str) -> str:
    return softmax(s, s.Where(allowed(s), added(s, x), -np.inf))


def _causal_and_keys(s: Sketch, x: str) -> str:
    x = s.Add(x, s.const(np.where(TRIANGLE, 0.0, LOWEST)))
    return softmax(s, s.Add(x, s.Where(allowed(s, (BATCH, 1, 1, LENGTH)), 0.0, LOWEST)))


MISSES = {
    "masked keys that still count": Miss(
        lambda s, x: softmax(s, s.Where(allowed(s), x, -10.0)), "no score function that is known"
    ),
    "masked keys at ten thousand": Miss(
        lambda s, x: softmax(s, s.Where(allowed(s), x, -10000.0)), "does not remove them"
    ),
    "two masks": Miss(_two_masks, "both have to be read"),
    "two masks by numbers": Miss(_causal_and_keys, "two masks put a number into scores"),
    "a mask after the softmax": Miss(
        lambda s, x: s.Mul(softmax(s, x), s.Cast(allowed(s), to="float32")), "no score function"
    ),
    "a triangle of a softmax": Miss(lambda s, x: s.Trilu(softmax(s, x), upper=0), "no score function"),
    "a triangle with the next key": Miss(
        lambda s, x: s.Trilu(s.Relu(x), s.const(1, "int64"), upper=0), "(Trilu) keeps other keys"
    ),
    "the upper triangle": Miss(lambda s, x: s.Trilu(s.Relu(x), upper=1), "(Trilu) keeps other keys"),
    "half of the keys behind": Miss(
        lambda s, x: s.Mul(s.Relu(x), s.const(np.where(TRIANGLE, 1.0, 0.5).astype(np.float32))),
        "no score function",
    ),
    "sigmoid times a triangle": Miss(
        lambda s, x: s.Mul(s.Sigmoid(x), s.const(TRIANGLE.astype(np.float32))),
        "keeps NaN where a mask removes",
    ),
    "relu times a boolean": Miss(
        lambda s, x: s.Mul(s.Relu(x), s.Cast(allowed(s), to="float32")), "keeps NaN where a mask removes"
    ),
    "shares times a boolean": Miss(
        lambda s, x: softplus_shares(s, x, s.Cast(allowed(s), to="float32")), "is not a mask by positions"
    ),
    "a divisor that may be zero": Miss(
        lambda s, x: s.Div(s.Relu(x), s.input("d", (LENGTH, 1))), "has zeros is not known"
    ),
    "a divisor of keys": Miss(
        lambda s, x: s.Div(s.Relu(x), s.const(COUNTS.reshape(-1) + 1.0)), "no score function that is known"
    ),
    "rounded weights": Miss(_rounded, "rounds the scores or weights"),
    "another count of keys": Miss(
        lambda s, x: reweighted(s, x, COUNTS + 1.0), "how many keys each query sees"
    ),
}
