"""Root mean square norms in their surroundings: axes, types, factors of the width, other readers."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx

from .case import Branch, Feeds, Sketch, Spelling
from .norm_parts import GAMMA, LAST, SHAPE, WIDTH
from .references import rms_norm

EPSILON = 1e-6


def normalised(s: Sketch, x: str, axes: Sequence[int] = LAST) -> str:
    power = s.ReduceMean(s.Pow(x, 2.0), axes=axes)
    return s.Mul(x, s.Reciprocal(s.Sqrt(s.Add(power, EPSILON))))


def of_shape(shape: Sequence[int], axes: Sequence[int], gamma_shape: Sequence[int]) -> onnx.ModelProto:
    s = Sketch()
    n = normalised(s, s.input("x", shape), axes)
    return s.model(s.Mul(n, s.const(GAMMA.reshape(gamma_shape)), name="y"))


def half(gamma_in: str) -> onnx.ModelProto:
    """A float16 graph with the statistics in float32; gamma is applied in either type."""
    s = Sketch()
    n = normalised(s, s.Cast(s.input("x", SHAPE, "float16"), to="float32"))
    if gamma_in == "float32":
        return s.model(s.Cast(s.Mul(n, s.const(GAMMA), name="wide"), to="float16", name="y"))
    return s.model(s.Mul(s.const(GAMMA, "float16"), s.Cast(n, to="float16"), name="y"))


def double() -> onnx.ModelProto:
    s = Sketch("float64")
    return s.model(s.Mul(normalised(s, s.input("x", SHAPE)), s.const(GAMMA), name="y"))


def native(axis: int, epsilon: float | None) -> onnx.ModelProto:
    s = Sketch()
    given = {} if epsilon is None else {"epsilon": epsilon}
    x = s.input("x", SHAPE)
    return s.model(s.RMSNormalization(x, s.const(GAMMA), axis=axis, name="y", **given), 23)


def by_the_root_of_the_width(how: str) -> onnx.ModelProto:
    """sqrt(width) * x / sqrt(sum(x^2) + width * epsilon): the width is taken out of the root."""
    s = Sketch()
    x = s.input("x", SHAPE)
    total = s.ReduceSumSquare(x, axes=LAST) if how == "after" else s.ReduceSum(s.Mul(x, x), axes=LAST)
    root = s.Sqrt(s.Add(total, WIDTH * EPSILON))
    if how == "after":
        return s.model(s.Mul(s.Mul(s.Div(x, root), WIDTH**0.5), s.const(GAMMA), name="y"))
    if how == "root_computed":
        width = s.Cast(s.Gather(s.Shape(x), s.const(-1, "int64"), axis=0), to="float32")
        return s.model(s.Mul(s.Mul(s.Div(x, root), s.Sqrt(width)), s.const(GAMMA), name="y"))
    return s.model(s.Mul(s.Div(x, root), s.const(GAMMA * WIDTH**0.5), name="y"))


def of_the_magnitude() -> onnx.ModelProto:
    s = Sketch()
    x = s.input("x", SHAPE)
    return s.model(s.Mul(normalised(s, s.Abs(x, name="magnitude")), s.const(GAMMA), name="y"))


def in_a_branch() -> onnx.ModelProto:
    s, then, otherwise = Sketch(), Sketch(prefix="then_"), Sketch(prefix="else_")
    x, flag = s.input("x", SHAPE), s.input("flag", [], "bool")
    y = then.op("Mul", then.const(GAMMA), normalised(then, x), name="y")
    branches = {"then_branch": Branch(then, [y]), "else_branch": Branch(otherwise, [otherwise.Abs(x)])}
    return s.model(s.If(flag, name="z", **branches))


def flattened() -> onnx.ModelProto:
    s = Sketch()
    n = normalised(s, s.Reshape(s.input("x", SHAPE), s.const([-1, WIDTH])))
    return s.model(s.Reshape(s.Mul(n, s.const(GAMMA), name="y"), s.const(list(SHAPE)), name="back"))


def with_readers(kept: str) -> onnx.ModelProto:
    s = Sketch()
    x = s.input("x", SHAPE)
    power = s.Add(s.ReduceMean(s.Mul(x, x, name="square"), axes=LAST, name="mean_square"), EPSILON)
    n = s.Mul(x, s.Reciprocal(s.Sqrt(power), name="inverse_root"), name="normalised")
    s.Mul(n, s.const(GAMMA), name="y")
    if kept.startswith("reader_of_"):
        s.Neg(kept.removeprefix("reader_of_"), name=kept)
    return s.model(["y", kept])


def summed_squares() -> onnx.ModelProto:
    s = Sketch()
    x = s.input("x", SHAPE)
    root = s.Sqrt(s.Add(s.ReduceSum(s.Mul(x, x), axes=LAST), EPSILON))
    return s.model(s.Mul(s.Div(x, root), s.const(GAMMA), name="y"))


def plain(fed: Feeds, factor: float = 1.0, epsilon: float = EPSILON) -> np.ndarray:
    return rms_norm(fed["x"], factor * GAMMA, epsilon=epsilon)


def over(axis: int | tuple[int, ...], *shape: int) -> Callable[[Feeds], np.ndarray]:
    return lambda fed: rms_norm(fed["x"], GAMMA.reshape(shape), axis=axis, epsilon=EPSILON)


def spelling(name: str, model: Callable[[], onnx.ModelProto], **rest: object) -> Spelling:
    given = {"attributes": {"axis": -1, "epsilon": EPSILON}, "wanted": plain, **rest}
    return Spelling(f"rms_norm_{name}", model, "RMSNormalization", **given)


IMAGE = (2, WIDTH, 3, 4)
TWO = {"attributes": {"axis": -2, "epsilon": EPSILON}, "wanted": over((-2, -1), 4, 3)}
FIRST = {"attributes": {}, "wanted": over(1, WIDTH, 1, 1)}
BACK = {"output": "y", "also": ("back",), "wanted": lambda fed: plain({"x": fed["x"].reshape(-1, WIDTH)})}
KEPT = ("square", "mean_square", "inverse_root", "normalised")

SPELLINGS = [
    spelling("over_two_axes", partial(of_shape, (6, 4, 3), [-2, -1], (4, 3)), **TWO),
    spelling("over_two_axes_counted_from_the_front", partial(of_shape, (6, 4, 3), [1, 2], (4, 3)), **TWO),
    spelling("channel_first", partial(of_shape, IMAGE, [1], (WIDTH, 1, 1)), **FIRST),
    spelling("channel_first_gamma_of_rank_4", partial(of_shape, IMAGE, [-3], (1, WIDTH, 1, 1)), **FIRST),
    spelling("half_precision_gamma_in_float16", partial(half, "float16")),
    spelling("half_precision_gamma_in_float32", partial(half, "float32"), also=("wide",)),
    spelling("double_precision", double),
    spelling("as_one_node", partial(native, -1, EPSILON)),
    spelling("as_one_node_axis_from_the_front", partial(native, 2, EPSILON)),
    spelling(
        "as_one_node_default_epsilon",
        partial(native, -1, None),
        attributes={"axis": -1, "epsilon": 1e-5},
        wanted=partial(plain, epsilon=1e-5),
    ),
    spelling("root_of_width_after", partial(by_the_root_of_the_width, "after")),
    spelling("root_of_width_in_gamma", partial(by_the_root_of_the_width, "in_gamma")),
    spelling("root_of_width_computed", partial(by_the_root_of_the_width, "root_computed")),
    spelling(
        "of_another_value",
        of_the_magnitude,
        source="magnitude",
        wanted=lambda fed: plain({"x": np.abs(fed["x"])}),
    ),
    spelling("in_a_branch", in_a_branch, output="y"),
    spelling("reshaped", flattened, **BACK),
    *(spelling(f"whose_{kept}_is_an_output", partial(with_readers, kept), keeps=(kept,)) for kept in KEPT),
    *(
        spelling(
            f"whose_{kept}_has_another_reader",
            partial(with_readers, f"reader_of_{kept}"),
            keeps=(f"reader_of_{kept}",),
        )
        for kept in KEPT
    ),
    spelling(
        "of_the_summed_squares",
        summed_squares,
        may_decline=True,
        attributes={"axis": -1, "epsilon": EPSILON / WIDTH},
        wanted=partial(plain, factor=WIDTH**-0.5, epsilon=EPSILON / WIDTH),
    ),
]
