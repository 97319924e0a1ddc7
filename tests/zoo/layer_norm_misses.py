"""Not (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * gamma + beta, though it looks so."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from .case import NearMiss, Sketch
from .norm_parts import BETA, GAMMA, LAST, SHAPE, WIDTH

EPSILON = 1e-3
Step = Callable[[Sketch, str], str]


def mean(s: Sketch, x: str, axis: int = -1) -> str:
    return s.ReduceMean(x, axes=[axis])


def both(s: Sketch, x: str) -> str:
    return s.ReduceMean(x, axes=[1, 2])


def centred(s: Sketch, x: str) -> str:
    return s.Sub(x, mean(s, x))


def power(s: Sketch, x: str, exponent: float = 2.0) -> str:
    return mean(s, s.Pow(x, exponent))


def root(s: Sketch, x: str, epsilon: object = EPSILON) -> str:
    return s.Sqrt(s.Add(x, epsilon))


def deviation(s: Sketch, x: str) -> str:
    return root(s, power(s, centred(s, x)))


def wrongly_centred(centre: Step) -> Step:
    """A layer norm in all but what it subtracts."""

    def normalised(s: Sketch, x: str) -> str:
        off = s.Sub(x, centre(s, x))
        return s.Div(off, root(s, power(s, off)))

    return normalised


def divided(by: Step) -> Step:
    """x - mean(x) over something that is not the root of the variance plus epsilon."""
    return lambda s, x: s.Div(centred(s, x), by(s, x))


def rounded(s: Sketch, x: str) -> str:
    off = centred(s, x)
    narrow = s.Cast(s.Cast(off, to="float16"), to="float32")
    return s.Div(narrow, root(s, power(s, off)))


def model(step: Step, opset: int = 17) -> onnx.ModelProto:
    s = Sketch()
    n = step(s, s.input("x", SHAPE))
    return s.model(s.Add(s.Mul(n, s.const(GAMMA)), s.const(BETA), name="y"), opset)


STEPS: dict[str, tuple[Step, str]] = {
    "fourth_power": (divided(lambda s, x: root(s, power(s, centred(s, x), 4.0))), "the exponent is 4"),
    "cube": (divided(lambda s, x: root(s, power(s, centred(s, x), 3.0))), "the exponent is 3"),
    "cube_root": (
        divided(lambda s, x: s.Pow(s.Add(power(s, centred(s, x)), EPSILON), 1 / 3)),
        "the root is a cube root",
    ),
    "without_root": (divided(lambda s, x: s.Add(power(s, centred(s, x)), EPSILON)), "there is no root"),
    "deviation_over_centred": (
        lambda s, x: s.Div(deviation(s, x), centred(s, x)),
        "numerator and denominator changed places",
    ),
    "sum_over_one_less": (
        wrongly_centred(lambda s, x: s.Div(s.ReduceSum(x, axes=LAST), float(WIDTH - 1))),
        "the mean divides by width - 1",
    ),
    "sum_over_one_more": (
        wrongly_centred(lambda s, x: s.Div(s.ReduceSum(x, axes=LAST), float(WIDTH + 1))),
        "the mean divides by width + 1",
    ),
    "sum_over_another_axis_length": (
        wrongly_centred(lambda s, x: s.Div(s.ReduceSum(x, axes=LAST), float(SHAPE[1]))),
        "the mean divides by the length of the sequence",
    ),
    "sum_for_mean": (wrongly_centred(lambda s, x: s.ReduceSum(x, axes=LAST)), "the sum is subtracted"),
    "maximum_for_mean": (
        wrongly_centred(lambda s, x: s.ReduceMax(x, axes=LAST)),
        "the maximum is subtracted",
    ),
    "mean_over_another_axis": (
        lambda s, x: s.Div(s.Sub(x, mean(s, x, 1)), deviation(s, x)),
        "the two reductions run over different axes",
    ),
    "variance_over_another_axis": (
        divided(lambda s, x: root(s, mean(s, s.Pow(centred(s, x), 2.0), 1))),
        "the two reductions run over different axes",
    ),
    "variance_over_two_axes": (
        divided(lambda s, x: root(s, s.ReduceMean(s.Pow(s.Sub(x, both(s, x)), 2.0), axes=[1, 2]))),
        "the variance is that of the whole sequence",
    ),
    "epsilon_outside_the_root": (
        divided(lambda s, x: s.Add(s.Sqrt(power(s, centred(s, x))), EPSILON)),
        "epsilon is added to the deviation",
    ),
    "epsilon_after_the_reciprocal_root": (
        lambda s, x: s.Mul(centred(s, x), s.Add(s.Reciprocal(s.Sqrt(power(s, centred(s, x)))), EPSILON)),
        "epsilon is added to the inverse deviation",
    ),
    "epsilon_as_a_floor": (
        divided(lambda s, x: s.Sqrt(s.Max(power(s, centred(s, x)), EPSILON))),
        "epsilon is a lower bound of the variance and not added to it",
    ),
    "epsilon_per_channel": (
        divided(lambda s, x: root(s, power(s, centred(s, x)), np.linspace(0.1, 0.3, WIDTH))),
        "epsilon differs from channel to channel",
    ),
    "raw_numerator": (lambda s, x: s.Div(x, deviation(s, x)), "the numerator is not centred"),
    "raw_variance": (divided(lambda s, x: root(s, power(s, x))), "the mean square is not centred"),
    "absolute_value_for_square": (
        divided(lambda s, x: root(s, mean(s, s.Abs(centred(s, x))))),
        "absolute values are averaged and not squares",
    ),
    "mean_absolute_deviation": (
        divided(lambda s, x: s.Add(mean(s, s.Abs(centred(s, x))), EPSILON)),
        "the mean absolute deviation divides",
    ),
    "moments_added": (
        divided(lambda s, x: root(s, s.Add(power(s, x), s.Pow(mean(s, x), 2.0)))),
        "the squared mean is added to the mean square",
    ),
    "mean_not_squared": (
        divided(lambda s, x: root(s, s.Abs(s.Sub(power(s, x), mean(s, x))))),
        "the mean is subtracted from the mean square without being squared",
    ),
    "shift_in_the_numerator_only": (
        lambda s, x: s.Div(s.Sub(s.Mul(x, 1.5), mean(s, x)), deviation(s, x)),
        "x is scaled in the numerator and not in the mean",
    ),
    "rounded_to_half": (rounded, "the centred value is rounded to float16 on the way"),
}

NEAR_MISSES = [
    NearMiss(f"not_layer_norm_{name}", partial(model, step), "LayerNormalization", why)
    for name, (step, why) in STEPS.items()
]
