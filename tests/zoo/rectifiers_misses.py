"""Pointwise operations in pieces that do not fit: a limit, a slope or a side is wrong."""

import numpy as np

from .case import Sketch
from .elus import minus_one
from .rectifiers import positive, sloped
from .references import SELU_ALPHA, SELU_GAMMA
from .unary import near_misses


def squares(s: Sketch, x: str, exponent: float) -> str:
    return s.Pow(s.Relu(x), exponent)


def hard_swish(s: Sketch, x: str, shift: float, top: float, divisor: float) -> str:
    return s.Div(s.Mul(x, s.Clip(s.Add(x, shift), 0.0, top)), divisor)


RELU = {
    "minimum": (lambda s, x: s.Min(x, 0.0), "the minimum"),
    "raised": (lambda s, x: s.Max(x, 0.01), "the limit is 0.01"),
    "clipped_above": (lambda s, x: s.Clip(x, 0.0, 6.0), "there is an upper limit"),
    "gap": (lambda s, x: s.Where(s.Greater(x, 0.5), x, 0.0), "values up to 0.5 vanish"),
    "absolute": (lambda s, x: s.Where(positive(s, x), x, s.Neg(x)), "the absolute value"),
    "of_two_inputs": (lambda s, x, z: s.Where(positive(s, z), x, 0.0), "two values", {"second": "z"}),
}

SQUARED = {
    "cube": (lambda s, x: squares(s, x, 3.0), "the exponent is 3", {"allowed": ("Relu",)}),
    "three_halves": (lambda s, x: squares(s, x, 1.5), "the exponent is 1.5", {"allowed": ("Relu",)}),
    "square_of_all": (lambda s, x: s.Relu(s.Pow(x, 2.0)), "x is squared before the relu"),
    "absolute": (lambda s, x: s.Mul(x, s.Abs(x)), "x |x| is negative below 0"),
    "of_two_inputs": (
        lambda s, x, z: s.Mul(s.Relu(x), s.Relu(z)),
        "two values",
        {"second": "z", "allowed": ("Relu", "ReGLU")},
    ),
}

LEAKY = {
    "quadratic": (lambda s, x: s.Where(positive(s, x), x, s.Mul(0.01, s.Mul(x, x))), "the leak is x^2"),
    "offset": (
        lambda s, x: s.Where(positive(s, x), x, s.Add(s.Mul(x, 0.01), 0.01)),
        "the leak has an offset",
    ),
    "other_threshold": (
        lambda s, x: s.Where(s.Greater(x, 1.0), x, s.Mul(x, 0.01)),
        "the slope changes at 1 and not at 0",
    ),
    "slope_per_channel": (
        lambda s, x: s.Where(positive(s, x), x, s.Mul(x, np.linspace(0.1, 0.2, 6))),
        "the slope differs from channel to channel",
    ),
}

ELU = {
    "alpha_inside": (
        lambda s, x: s.Where(positive(s, x), x, minus_one(s, s.Mul(x, 0.5))),
        "alpha multiplies the exponent",
    ),
    "alpha_on_the_exponential": (
        lambda s, x: s.Where(positive(s, x), x, s.Sub(s.Mul(0.5, s.Exp(x)), 1.0)),
        "alpha multiplies exp(x) and not exp(x) - 1",
    ),
    "without_one": (lambda s, x: s.Where(positive(s, x), x, s.Exp(x)), "1 is not subtracted"),
    "sides_swapped": (
        lambda s, x: s.Where(positive(s, x), minus_one(s, x), x),
        "the exponential is on the positive side",
    ),
}

SELU = {
    "without_one": (
        lambda s, x: s.Mul(SELU_GAMMA, s.Where(positive(s, x), x, s.Mul(SELU_ALPHA, s.Exp(x)))),
        "1 is not subtracted",
    ),
    "other_threshold": (
        lambda s, x: s.Mul(SELU_GAMMA, s.Where(s.Greater(x, 1.0), x, s.Mul(SELU_ALPHA, minus_one(s, x)))),
        "the exponential reaches up to 1",
    ),
}

CELU = {
    "alpha_not_divided": (
        lambda s, x: s.Add(s.Max(x, 0.0), s.Min(s.Mul(2.0, minus_one(s, x)), 0.0)),
        "the exponent is not divided by alpha, which makes an Elu",
        {"allowed": ("Elu",)},
    ),
    "alpha_multiplied": (
        lambda s, x: s.Add(s.Max(x, 0.0), s.Min(s.Mul(2.0, minus_one(s, s.Mul(x, 2.0))), 0.0)),
        "the exponent is multiplied by alpha",
    ),
}

SOFTSIGN = {
    "two": (lambda s, x: s.Div(x, s.Add(s.Abs(x), 2.0)), "2 for 1"),
    "without_absolute_value": (lambda s, x: s.Div(x, s.Add(x, 1.5)), "x for |x|"),
    "square": (lambda s, x: s.Div(x, s.Add(s.Mul(x, x), 1.0)), "x^2 for |x|"),
    "root": (lambda s, x: s.Div(x, s.Sqrt(s.Add(s.Mul(x, x), 1.0))), "the root of 1 + x^2 for 1 + |x|"),
}

HARD_SWISH = {
    "top_of_five": (lambda s, x: hard_swish(s, x, 3.0, 5.0, 6.0), "the upper limit is 5"),
    "over_five": (lambda s, x: hard_swish(s, x, 3.0, 6.0, 5.0), "the divisor is 5"),
    "shift_of_two": (lambda s, x: hard_swish(s, x, 2.0, 6.0, 6.0), "the shift is 2"),
    "slope_of_a_fifth": (
        lambda s, x: s.Mul(x, s.Clip(sloped(s, x, 0.2, 0.5), 0.0, 1.0)),
        "the slope is 1 / 5",
        {"allowed": ("HardSigmoid",)},
    ),
    "of_two_inputs": (
        lambda s, x, z: s.Mul(x, s.HardSigmoid(z, alpha=1 / 6)),
        "two values",
        {"second": "z", "allowed": ("HardSigmoid",)},
    ),
}

HARD_SIGMOID = {
    "higher_top": (lambda s, x: s.Clip(sloped(s, x, 0.2, 0.5), 0.0, 1.1), "the upper limit is 1.1"),
    "hard_tanh": (lambda s, x: s.Clip(s.Mul(x, 0.2), -1.0, 1.0), "the limits are -1 and 1"),
    "one_limit": (lambda s, x: s.Max(sloped(s, x, 0.2, 0.5), 0.0), "there is no upper limit"),
}

NEAR_MISSES = [
    *near_misses("Relu", "relu", RELU),
    *near_misses("SquaredRelu", "squared_relu", SQUARED),
    *near_misses("LeakyRelu", "leaky_relu", LEAKY),
    *near_misses("Elu", "elu", ELU),
    *near_misses("Selu", "selu", SELU),
    *near_misses("Celu", "celu", CELU),
    *near_misses("Softsign", "softsign", SOFTSIGN),
    *near_misses("HardSwish", "hard_swish", HARD_SWISH),
    *near_misses("HardSigmoid", "hard_sigmoid", HARD_SIGMOID),
]
