"""score(scale q k^T + mask) v: softmax and sigmoid attention, with every place for the scale and the mask."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from . import attention_settings as settings
from . import references as ref
from .case import Feeds, Sketch, Spelling
from .softmax import by_reciprocal, shares, shifted

DEPTH, LENGTH = 6, 5
QUERY = (2, 3, LENGTH, DEPTH)
SCALE = DEPTH**-0.5
LOWEST = float(np.finfo(np.float32).min)
CAUSAL = np.tril(np.ones((LENGTH, LENGTH), dtype=bool))


def weights(s: Sketch, scores: str, score: str) -> str:
    match score:
        case "softmax":
            return s.Softmax(scores, axis=-1)
        case "softmax_written_out":
            return shares(s, shifted(s, scores))
        case "softmax_by_reciprocal":
            return by_reciprocal(s, scores)
        case "softmax_in_double":
            return s.Cast(s.Softmax(s.Cast(scores, to="float64"), axis=-1), to="float32")
        case "sigmoid":
            return s.Sigmoid(scores)
        case "sigmoid_written_out":
            return s.Reciprocal(s.Add(s.Exp(s.Neg(scores)), 1.0))
    raise ValueError(score)


def product(s: Sketch, q: str, k: str, scale: str) -> str:
    """scale q k^T, by where the scale is applied."""
    half = SCALE**0.5
    match scale:
        case "none":
            return s.MatMul(q, turned(s, k))
        case "mul_after":
            return s.Mul(s.MatMul(q, turned(s, k)), SCALE)
        case "mul_first_operand":
            return s.Mul(SCALE, s.MatMul(q, turned(s, k)))
        case "div_after":
            return s.Div(s.MatMul(q, turned(s, k)), DEPTH**0.5)
        case "div_by_root_from_shape":
            depth = s.Cast(s.Gather(s.Shape(q), s.const(-1, "int64"), axis=0), to="float32")
            return s.Div(s.MatMul(q, turned(s, k)), s.Sqrt(depth))
        case "query":
            return s.MatMul(s.Mul(q, SCALE), turned(s, k))
        case "query_div":
            return s.MatMul(s.Div(q, DEPTH**0.5), turned(s, k))
        case "key":
            return s.MatMul(q, turned(s, s.Mul(k, SCALE)))
        case "key_transposed":
            return s.MatMul(q, s.Mul(turned(s, k), SCALE))
        case "both":
            return s.MatMul(s.Mul(q, half), s.Mul(turned(s, k), half))
        case "both_div":
            return s.MatMul(s.Div(q, 1 / half), turned(s, s.Div(k, 1 / half)))
    raise ValueError(scale)


def turned(s: Sketch, k: str) -> str:
    return s.Transpose(k, perm=[0, 1, 3, 2])


def masked(s: Sketch, scores: str, mask: str | None) -> str:
    shape = [2, 1, LENGTH, LENGTH]
    match mask:
        case None:
            return scores
        case "additive":
            return s.Add(scores, s.input("mask", shape))
        case "additive_first":
            return s.Add(s.input("mask", shape), scores)
        case "where_infinite":
            return s.Where(s.input("allowed", shape, "bool"), scores, -np.inf)
        case "where_lowest":
            return s.Where(s.input("allowed", shape, "bool"), scores, LOWEST)
        case "where_not":
            return s.Where(s.Not(s.input("allowed", shape, "bool")), LOWEST, scores)
        case "where_added":
            bias = s.Where(s.input("allowed", shape, "bool"), 0.0, LOWEST)
            return s.Add(scores, bias)
        case "integers":
            wide = s.Cast(s.input("allowed", shape, "bool"), to="float32")
            return s.Add(scores, s.Mul(s.Sub(1.0, wide), LOWEST))
        case "integers_ten_thousand":
            wide = s.Cast(s.input("allowed", shape, "bool"), to="float32")
            return s.Add(scores, s.Mul(s.Sub(1.0, wide), -10000.0))
        case "causal_infinite":
            return s.Add(scores, s.const(np.where(CAUSAL, 0.0, -np.inf)))
        case "causal_lowest":
            return s.Add(scores, s.const(np.where(CAUSAL, 0.0, LOWEST)))
        case "causal_where":
            return s.Where(s.const(CAUSAL), scores, -np.inf)
        case "causal_trilu":
            ones = s.const(np.ones((LENGTH, LENGTH)))
            return s.Where(s.Equal(s.Trilu(ones, upper=0), 0.0), LOWEST, scores)
        case "constant_bias":
            return s.Add(scores, float(-np.log(LENGTH)))
    raise ValueError(mask)


def attention(
    scale: str = "mul_after", mask: str | None = None, score: str = "softmax", opset: int = 17
) -> onnx.ModelProto:
    s = Sketch()
    q, k, v = (s.input(name, QUERY) for name in "qkv")
    p = weights(s, masked(s, product(s, q, k, scale), mask), score)
    return s.model(s.MatMul(p, v, name="y"), opset)


def bias_of(fed: Feeds, mask: str | None) -> np.ndarray | float:
    if mask is None:
        return 0.0
    if mask == "constant_bias":
        return -np.log(LENGTH)
    if "mask" in fed:
        return fed["mask"]
    if "allowed" not in fed:
        return np.where(CAUSAL, 0.0, -1e30)
    return np.where(fed["allowed"], 0.0, -10000.0 if mask.endswith("thousand") else -1e30)


def wanted(fed: Feeds, *, scale: str, mask: str | None, score: str) -> np.ndarray:
    factor = 1.0 if scale == "none" else SCALE
    kind = score.split("_")[0]
    return ref.attention(fed["q"], fed["k"], fed["v"], scale=factor, mask=bias_of(fed, mask), score=kind)


def spelling(name: str, **choices: object) -> Spelling:
    told = {"scale": "mul_after", "mask": None, "score": "softmax"} | choices
    told.pop("opset", None)
    kind = str(told["score"]).split("_")[0]
    build: Callable[[], onnx.ModelProto] = partial(attention, **choices)
    return Spelling(name, build, "ScoreAttention", {"score": kind}, partial(wanted, **told))


SCALES = (
    "none",
    "mul_after",
    "mul_first_operand",
    "div_after",
    "div_by_root_from_shape",
    "query",
    "query_div",
    "key",
    "key_transposed",
    "both",
    "both_div",
)
MASKS = (
    "additive",
    "additive_first",
    "where_infinite",
    "where_lowest",
    "where_not",
    "where_added",
    "integers",
    "integers_ten_thousand",
    "causal_infinite",
    "causal_lowest",
    "causal_where",
    "causal_trilu",
)

SPELLINGS = [
    *(spelling(f"attention_scale_{scale}", scale=scale) for scale in SCALES),
    *(spelling(f"attention_mask_{mask}", mask=mask) for mask in MASKS),
    *(spelling(f"attention_opset_{n}", opset=n, scale="div_after") for n in (11, 13, 18, 20, 23)),
    spelling("attention_softmax_written_out", score="softmax_written_out", opset=18),
    spelling("attention_softmax_by_reciprocal", score="softmax_by_reciprocal", mask="additive"),
    spelling("attention_softmax_in_double", score="softmax_in_double"),
    *(
        spelling(f"sigmoid_attention_scale_{scale}", score="sigmoid", scale=scale)
        for scale in ("none", "div_after", "query", "both")
    ),
    *(
        spelling(f"sigmoid_attention_mask_{mask}", score="sigmoid", mask=mask)
        for mask in ("additive", "where_infinite", "where_lowest", "causal_lowest", "constant_bias")
    ),
    spelling("sigmoid_attention_written_out", score="sigmoid_written_out"),
    *settings.SPELLINGS,
]
