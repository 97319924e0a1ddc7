"""Not x / sqrt(mean(x^2) + epsilon) * gamma, though it looks so."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from .case import NearMiss, Sketch
from .norm_parts import GAMMA, LAST, SHAPE, WIDTH

EPSILON = 1e-3
Step = Callable[[Sketch, str], str]


def mean(s: Sketch, x: str, axis: int = -1) -> str:
    return s.ReduceMean(x, axes=[axis])


def power(s: Sketch, x: str, exponent: float = 2.0) -> str:
    return mean(s, s.Pow(x, exponent))


def root(s: Sketch, x: str, epsilon: object = EPSILON) -> str:
    return s.Sqrt(s.Add(x, epsilon))


def divided(by: Step) -> Step:
    return lambda s, x: s.Div(x, by(s, x))


def rounded(s: Sketch, x: str) -> str:
    inverse = s.Cast(s.Reciprocal(root(s, power(s, x))), to="float16")
    return s.Mul(x, s.Cast(inverse, to="float32"))


def of_the_first_half(s: Sketch, x: str) -> str:
    ends = s.const([0]), s.const([WIDTH // 2]), s.const([-1])
    return root(s, power(s, s.Slice(x, *ends)))


def length(s: Sketch, x: str) -> str:
    return s.ReduceL2(x, axes=LAST)


STEPS: dict[str, tuple[Step, str]] = {
    "fourth_power": (divided(lambda s, x: root(s, power(s, x, 4.0))), "the exponent is 4"),
    "cube": (divided(lambda s, x: root(s, power(s, s.Abs(x), 3.0))), "the exponent is 3"),
    "cube_root": (
        divided(lambda s, x: s.Pow(s.Add(power(s, x), EPSILON), 1 / 3)),
        "the root is a cube root",
    ),
    "without_root": (divided(lambda s, x: s.Add(power(s, x), EPSILON)), "there is no root"),
    "root_over_x": (
        lambda s, x: s.Div(root(s, power(s, x)), x),
        "numerator and denominator changed places",
    ),
    "product_with_root": (lambda s, x: s.Mul(x, root(s, power(s, x))), "the root multiplies"),
    "epsilon_outside_the_root": (
        divided(lambda s, x: s.Add(s.Sqrt(power(s, x)), EPSILON)),
        "epsilon is added to the root mean square",
    ),
    "epsilon_after_the_reciprocal_root": (
        lambda s, x: s.Mul(x, s.Add(s.Reciprocal(s.Sqrt(power(s, x))), EPSILON)),
        "epsilon is added to the inverse of the root mean square",
    ),
    "epsilon_as_a_floor": (
        divided(lambda s, x: s.Sqrt(s.Max(power(s, x), EPSILON))),
        "epsilon is a lower bound of the mean square and not added to it",
    ),
    "length_with_a_floor": (
        lambda s, x: s.Mul(s.Div(x, s.Max(length(s, x), 1e-2)), WIDTH**0.5),
        "the length has a lower bound",
    ),
    "length_plus_epsilon": (
        lambda s, x: s.Mul(s.Div(x, s.Add(length(s, x), EPSILON)), WIDTH**0.5),
        "epsilon is added to the length",
    ),
    "epsilon_per_channel": (
        divided(lambda s, x: root(s, power(s, x), np.linspace(0.1, 0.3, WIDTH))),
        "epsilon differs from channel to channel",
    ),
    "epsilon_per_row": (
        divided(lambda s, x: root(s, power(s, x), np.linspace(0.1, 0.3, SHAPE[1]).reshape(-1, 1))),
        "epsilon differs from row to row",
    ),
    "mean_for_mean_square": (
        divided(lambda s, x: root(s, s.Pow(mean(s, x), 2.0))),
        "the mean is squared and not the squares averaged",
    ),
    "absolute_value_for_square": (
        divided(lambda s, x: root(s, mean(s, s.Abs(x)))),
        "absolute values are averaged and not squares",
    ),
    "mean_absolute_value": (
        divided(lambda s, x: s.Add(mean(s, s.Abs(x)), EPSILON)),
        "the mean absolute value divides",
    ),
    "square_in_the_numerator": (
        lambda s, x: s.Div(s.Mul(x, s.Abs(x)), root(s, power(s, x))),
        "the numerator is x |x|",
    ),
    "variance_for_mean_square": (
        divided(lambda s, x: root(s, power(s, s.Sub(x, mean(s, x))))),
        "the denominator is centred and the numerator is not",
    ),
    "shifted_numerator": (
        lambda s, x: s.Div(s.Add(x, 0.1), root(s, power(s, x))),
        "the numerator is x + 0.1",
    ),
    "of_the_first_half": (divided(of_the_first_half), "half of the channels give the mean square"),
    "maximum_for_mean": (
        divided(lambda s, x: root(s, s.ReduceMax(s.Mul(x, x), axes=LAST))),
        "the largest square divides",
    ),
    "rounded_to_half": (rounded, "the inverse root is rounded to float16 on the way"),
}


def model(step: Step) -> onnx.ModelProto:
    s = Sketch()
    return s.model(s.Mul(step(s, s.input("x", SHAPE)), s.const(GAMMA), name="y"))


NEAR_MISSES = [
    NearMiss(f"not_rms_norm_{name}", partial(model, step), "RMSNormalization", why)
    for name, (step, why) in STEPS.items()
]
