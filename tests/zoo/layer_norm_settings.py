"""Layer norms in their surroundings: other axes, layouts, types, branches, values that others read too."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx

from .case import Branch, Feeds, Sketch, Spelling
from .norm_parts import BETA, GAMMA, LAST, SHAPE, WIDTH, average, quotient
from .references import layer_norm

EPSILON = 1e-5


def normalised(s: Sketch, x: str, axes: Sequence[int] = LAST, count: int = WIDTH, ddof: int = 0) -> str:
    """(x - mean) / sqrt(sum((x - mean)^2) / (count - ddof) + epsilon)."""
    off = s.Sub(x, s.ReduceMean(x, axes=axes))
    square = s.Mul(off, off)
    power = average(s, square, "sum_div", axes, count - ddof) if ddof else s.ReduceMean(square, axes=axes)
    return quotient(s, off, s.Add(power, EPSILON), "sqrt_div")


def scaled(s: Sketch, x: str, gamma: object = GAMMA, beta: object = BETA) -> str:
    return s.Add(s.Mul(x, s.const(gamma)), s.const(beta), name="y")


def half(affine_in: str, opset: int = 17) -> onnx.ModelProto:
    """A float16 graph that computes the statistics in float32, and the affine part in either type."""
    s = Sketch()
    x = s.Cast(s.input("x", SHAPE, "float16"), to="float32")
    n = normalised(s, x)
    if affine_in == "float32":
        n = s.Add(s.Mul(n, s.const(GAMMA)), s.const(BETA), name="wide")
        return s.model(s.Cast(n, to="float16", name="y"), opset)
    n = s.Cast(n, to="float16")
    return s.model(s.Add(s.Mul(s.const(GAMMA, "float16"), n), s.const(BETA, "float16"), name="y"), opset)


def double() -> onnx.ModelProto:
    s = Sketch("float64")
    return s.model(scaled(s, normalised(s, s.input("x", SHAPE))))


def in_a_branch() -> onnx.ModelProto:
    s, then, otherwise = Sketch(), Sketch(prefix="then_"), Sketch(prefix="else_")
    x, flag = s.input("x", SHAPE), s.input("flag", [], "bool")
    y = scaled(then, normalised(then, x))
    other = otherwise.op("Abs", x, name="other")
    return s.model(
        s.If(flag, then_branch=Branch(then, [y]), else_branch=Branch(otherwise, [other]), name="z")
    )


def native(axis: int, rank: int) -> onnx.ModelProto:
    s = Sketch()
    x = s.input("x", (2, 5, 3, WIDTH)[-rank:])
    y = s.LayerNormalization(x, s.const(GAMMA), s.const(BETA), axis=axis, epsilon=EPSILON, name="y")
    return s.model(y)


def with_readers(kept: str) -> onnx.ModelProto:
    """An inner value leaves the graph too, as it is or through another node."""
    s = Sketch()
    x = s.input("x", SHAPE)
    mean = s.ReduceMean(x, axes=LAST, name="mean")
    off = s.Sub(x, mean, name="centred")
    wide = s.ReduceMean(s.Mul(off, off), axes=LAST, name="variance")
    n = s.Div(off, s.Sqrt(s.Add(wide, EPSILON), name="deviation"), name="normalised")
    y = scaled(s, n)
    if kept.startswith("reader_of_"):
        s.Exp(kept.removeprefix("reader_of_"), name=kept)
    return s.model([y, kept])


def absorbed(how: str) -> onnx.ModelProto:
    """A layer norm after all, if a factor is moved into the scale and another epsilon is named."""
    s = Sketch()
    x = s.input("x", SHAPE)
    if how == "sample_variance":
        return s.model(scaled(s, normalised(s, x, ddof=1)))
    off = s.Sub(x, s.ReduceMean(x, axes=LAST))
    if how == "mean_minus_x":
        reverse = s.Sub(s.ReduceMean(x, axes=LAST), x)
        power = s.ReduceMean(s.Mul(reverse, reverse), axes=LAST)
        return s.model(scaled(s, s.Div(reverse, s.Sqrt(s.Add(power, EPSILON)))))
    power = s.Add(s.ReduceSum(s.Mul(off, off), axes=LAST), EPSILON)
    return s.model(scaled(s, s.Div(off, s.Sqrt(power))))


def plain(fed: Feeds, sign: float = 1.0, factor: float = 1.0, epsilon: float = EPSILON) -> np.ndarray:
    return layer_norm(fed["x"], sign * factor * GAMMA, BETA, epsilon=epsilon)


def spelling(name: str, model: Callable[[], onnx.ModelProto], **rest: object) -> Spelling:
    given = {"attributes": {"axis": -1, "epsilon": EPSILON}, "wanted": plain, **rest}
    return Spelling(f"layer_norm_{name}", model, "LayerNormalization", **given)


KEPT = ("mean", "centred", "variance", "deviation", "normalised")

SPELLINGS = [
    spelling("half_precision_statistics_in_float32", partial(half, "float16")),
    spelling("half_precision_everything_in_float32", partial(half, "float32"), also=("wide",)),
    spelling("half_precision_opset_20", partial(half, "float16", 20)),
    spelling("double_precision", double),
    spelling("in_a_branch", in_a_branch, output="y"),
    spelling("as_one_node", partial(native, -1, 3)),
    spelling("as_one_node_axis_from_the_front", partial(native, 3, 4)),
    *(spelling(f"whose_{kept}_is_an_output", partial(with_readers, kept), keeps=(kept,)) for kept in KEPT),
    *(
        spelling(
            f"whose_{kept}_has_another_reader",
            partial(with_readers, f"reader_of_{kept}"),
            keeps=(f"reader_of_{kept}",),
        )
        for kept in ("mean", "centred", "normalised")
    ),
    spelling(
        "of_the_sample_variance",
        partial(absorbed, "sample_variance"),
        may_decline=True,
        attributes={"axis": -1, "epsilon": EPSILON * (WIDTH - 1) / WIDTH},
        wanted=partial(plain, factor=(1 - 1 / WIDTH) ** 0.5, epsilon=EPSILON * (WIDTH - 1) / WIDTH),
    ),
    spelling(
        "of_the_summed_squares",
        partial(absorbed, "summed_squares"),
        may_decline=True,
        attributes={"axis": -1, "epsilon": EPSILON / WIDTH},
        wanted=partial(plain, factor=WIDTH**-0.5, epsilon=EPSILON / WIDTH),
    ),
    spelling(
        "with_a_negative_scale",
        partial(absorbed, "mean_minus_x"),
        may_decline=True,
        wanted=partial(plain, sign=-1.0),
    ),
]
