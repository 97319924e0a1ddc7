"""Attention among other things: projections, grouped heads, other ranks, other readers, declared freedoms."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from . import references as ref
from .case import Feeds, Sketch, Spelling

HEADS, LENGTH, DEPTH = 4, 5, 6
WIDTH = HEADS * DEPTH
SCALE = DEPTH**-0.5
TABLES = [
    ((step * np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH) % 29) - 14) / 64
    for step in (7.0, 11.0, 13.0, 17.0)
]


def attend(s: Sketch, q: str, k: str, v: str, score: str = "Softmax", name: str = "y", rank: int = 4) -> str:
    """k with its keys as columns already."""
    scores = s.Mul(s.MatMul(q, k), SCALE)
    p = s.op(score, scores, **({"axis": rank - 1} if score == "Softmax" else {}))
    return s.MatMul(p, v, name=name)


def of_rank(rank: int, score: str) -> onnx.ModelProto:
    s = Sketch()
    shape = (2, 3, LENGTH, DEPTH)[-rank:]
    order = [*range(rank - 2), rank - 1, rank - 2]
    q, k, v = (s.input(name, shape) for name in "qkv")
    return s.model(attend(s, q, s.Transpose(k, perm=order), v, score, rank=rank))


def across() -> onnx.ModelProto:
    """More keys than queries, values of another depth, and keys that arrive as columns."""
    s = Sketch()
    q, k, v = s.input("q", (2, 3, LENGTH, DEPTH)), s.input("k", (2, 3, DEPTH, 9)), s.input("v", (2, 3, 9, 4))
    return s.model(attend(s, q, k, v))


def symbolic() -> onnx.ModelProto:
    s = Sketch()
    q, k, v = (s.input(name, ("batch", HEADS, "sequence", DEPTH)) for name in "qkv")
    return s.model(attend(s, q, s.Transpose(k, perm=[0, 1, 3, 2]), v), 18)


def roles_swapped() -> onnx.ModelProto:
    """The value called k asks, the value called q answers."""
    s = Sketch()
    q, k, v = (s.input(name, (2, 3, LENGTH, DEPTH)) for name in "qkv")
    return s.model(attend(s, k, s.Transpose(q, perm=[0, 1, 3, 2]), v))


def projected(score: str, opset: int) -> onnx.ModelProto:
    """Heads are cut from projections of x, and joined and projected again."""
    s = Sketch()
    x = s.input("x", (2, LENGTH, WIDTH))
    q, k, v = (heads(s, s.MatMul(x, s.const(table))) for table in TABLES[:3])
    context = attend(s, q, s.Transpose(k, perm=[0, 1, 3, 2]), v, score, "context")
    joined = s.Reshape(s.Transpose(context, perm=[0, 2, 1, 3]), s.const([2, LENGTH, WIDTH]))
    return s.model(s.MatMul(joined, s.const(TABLES[3])), opset)


def heads(s: Sketch, x: str) -> str:
    return s.Transpose(s.Reshape(x, s.const([2, LENGTH, HEADS, DEPTH])), perm=[0, 2, 1, 3])


def projected_values(fed: Feeds, score: str) -> np.ndarray:
    cut = [(fed["x"] @ table).reshape(2, LENGTH, HEADS, DEPTH).transpose(0, 2, 1, 3) for table in TABLES[:3]]
    return ref.attention(*cut, scale=SCALE, score=score.lower())


def grouped(opset: int, score: str) -> onnx.ModelProto:
    """Each pair of query heads shares a head of k and v."""
    s = Sketch()
    q = s.input("q", (2, HEADS, LENGTH, DEPTH))
    k, v = (repeated(s, s.input(name, (2, HEADS // 2, LENGTH, DEPTH))) for name in "kv")
    return s.model(attend(s, q, s.Transpose(k, perm=[0, 1, 3, 2]), v, score), opset)


def repeated(s: Sketch, x: str) -> str:
    shape = s.const([2, HEADS // 2, 2, LENGTH, DEPTH])
    return s.Reshape(s.Expand(s.Unsqueeze(x, axes=[2]), shape), s.const([2, HEADS, LENGTH, DEPTH]))


def half() -> onnx.ModelProto:
    """A float16 graph whose softmax is in float32; the scale is a float16 number."""
    s = Sketch("float16")
    q, k, v = (s.input(name, (2, 3, LENGTH, DEPTH)) for name in "qkv")
    scores = s.Mul(s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2])), 0.5)
    p = s.Cast(s.Softmax(s.Cast(scores, to="float32"), axis=-1), to="float16")
    return s.model(s.MatMul(p, v, name="y"))


def special(how: str) -> onnx.ModelProto:
    s = Sketch()
    q, k, v = (s.input(name, (2, 3, LENGTH, DEPTH)) for name in "qkv")
    columns = s.Transpose(k, perm=[0, 1, 3, 2])
    scores = s.Mul(s.MatMul(q, columns), SCALE, name="scores")
    match how:
        case "weights_leave":
            return s.model([s.MatMul(s.Softmax(scores, axis=-1, name="weights"), v, name="y"), "weights"])
        case "scores_leave":
            return s.model([s.MatMul(s.Softmax(scores, axis=-1), v, name="y"), "scores"])
        case "capped":
            scores = s.Mul(s.Tanh(s.Div(scores, 30.0)), 30.0)
        case "scale_per_head":
            scores = s.Mul(scores, s.const(np.array([0.5, 1.0, 2.0]).reshape(3, 1, 1)))
        case "einsum":
            scores = s.Mul(s.Einsum(q, k, equation="bhqd,bhkd->bhqk"), SCALE)
        case "nan_to_zero":
            p = s.Softmax(scores, axis=-1)
            return s.model(s.MatMul(s.Where(s.IsNaN(p), 0.0, p), v, name="y"))
        case "query_axis_turned":
            p = s.Transpose(s.Softmax(scores, axis=-2), perm=[0, 1, 3, 2])
            return s.model(s.MatMul(p, v, name="y"))
    return s.model(s.MatMul(s.Softmax(scores, axis=-1), v, name="y"))


def plain(fed: Feeds, score: str = "softmax", scale: float | np.ndarray = SCALE) -> np.ndarray:
    return ref.attention(fed["q"], fed["k"], fed["v"], scale=scale, score=score)


def capped(fed: Feeds) -> np.ndarray:
    scores = SCALE * fed["q"] @ fed["k"].swapaxes(-1, -2)
    return ref.softmax(30 * np.tanh(scores / 30)) @ fed["v"]


def shared(fed: Feeds, score: str) -> np.ndarray:
    k, v = (np.repeat(fed[name], 2, axis=1) for name in "kv")
    return ref.attention(fed["q"], k, v, scale=SCALE, score=score.lower())


def spelling(
    name: str,
    model: Callable[[], onnx.ModelProto],
    wanted: Callable[[Feeds], np.ndarray],
    score: str = "softmax",
    **rest: object,
) -> Spelling:
    told = {"attributes": {"score": score}, **rest}
    return Spelling(f"attention_{name}", model, "ScoreAttention", wanted=wanted, **told)


PER_HEAD = SCALE * np.array([0.5, 1.0, 2.0]).reshape(3, 1, 1)

SPELLINGS = [
    *(spelling(f"of_rank_{rank}", partial(of_rank, rank, "Softmax"), plain) for rank in (2, 3)),
    spelling("sigmoid_of_rank_3", partial(of_rank, 3, "Sigmoid"), partial(plain, score="sigmoid"), "sigmoid"),
    spelling(
        "across",
        across,
        lambda fed: plain({"q": fed["q"], "k": fed["k"].swapaxes(-1, -2), "v": fed["v"]}),
    ),
    spelling("symbolic", symbolic, plain),
    spelling(
        "roles_swapped", roles_swapped, lambda fed: plain({"q": fed["k"], "k": fed["q"], "v": fed["v"]})
    ),
    *(
        spelling(
            f"projected_{score.lower()}_opset_{opset}",
            partial(projected, score, opset),
            partial(projected_values, score=score),
            score.lower(),
            output="context",
        )
        for score, opset in (("Softmax", 17), ("Softmax", 18), ("Sigmoid", 17))
    ),
    *(
        spelling(
            f"grouped_{score.lower()}_opset_{opset}",
            partial(grouped, opset, score),
            partial(shared, score=score),
            score.lower(),
        )
        for score, opset in (("Softmax", 11), ("Softmax", 18), ("Sigmoid", 17))
    ),
    spelling("half_precision", half, partial(plain, scale=0.5)),
    spelling("whose_weights_leave", partial(special, "weights_leave"), plain, keeps=("weights",)),
    spelling("whose_scores_leave", partial(special, "scores_leave"), plain, keeps=("scores",)),
    spelling(
        "capped",
        partial(special, "capped"),
        capped,
        attributes={"score": "softmax", "softcap": 30.0},
        may_decline=True,
    ),
    spelling(
        "scale_per_head",
        partial(special, "scale_per_head"),
        partial(plain, scale=PER_HEAD),
        may_decline=True,
    ),
    spelling("einsum", partial(special, "einsum"), plain, may_decline=True),
    spelling("nan_to_zero", partial(special, "nan_to_zero"), plain, may_decline=True),
    spelling(
        "query_axis_turned",
        partial(special, "query_axis_turned"),
        lambda fed: plain({"q": fed["k"], "k": fed["q"], "v": fed["v"]}),
        may_decline=True,
    ),
]
