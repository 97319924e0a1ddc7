"""Not x Phi(x) nor its approximation by tanh, though it looks so."""

import math

from .case import Sketch
from .gelu import CUBIC, ROOT_2, ROOT_2_OVER_PI, by_erf
from .unary import near_misses


def with_divisor(s: Sketch, x: str, divisor: float) -> str:
    return s.Mul(s.Mul(x, s.Add(s.Erf(s.Div(x, divisor)), 1.0)), 0.5)


def with_constants(s: Sketch, x: str, root: float, cubic: float, exponent: float = 3.0) -> str:
    u = s.Mul(root, s.Add(x, s.Mul(cubic, s.Pow(x, exponent))))
    return s.Mul(s.Mul(x, s.Add(s.Tanh(u), 1.0)), 0.5)


def without_inner_x(s: Sketch, x: str) -> str:
    u = s.Mul(ROOT_2_OVER_PI, s.Add(1.0, s.Mul(CUBIC, s.Mul(x, x))))
    return s.Mul(s.Mul(x, s.Add(s.Tanh(u), 1.0)), 0.5)


def rounded(s: Sketch, x: str) -> str:
    bell = s.Cast(s.Cast(s.Erf(s.Div(x, ROOT_2)), to="float16"), to="float32")
    return s.Mul(s.Mul(x, s.Add(bell, 1.0)), 0.5)


TABLE = {
    "root_of_four_decimals": (lambda s, x: with_divisor(s, x, 1.4142), "sqrt(2) is written 1.4142"),
    "root_of_three_decimals": (lambda s, x: with_divisor(s, x, 1.414), "sqrt(2) is written 1.414"),
    "divided_by_two": (lambda s, x: with_divisor(s, x, 2.0), "erf takes x / 2"),
    "erf_of_x": (lambda s, x: with_divisor(s, x, 1.0), "erf takes x without division"),
    "divided_by_root_of_three": (lambda s, x: with_divisor(s, x, math.sqrt(3)), "sqrt(3) replaces sqrt(2)"),
    "cubic_ten_times": (lambda s, x: with_constants(s, x, ROOT_2_OVER_PI, 0.44715), "0.44715 for 0.044715"),
    "cubic_of_three_digits": (
        lambda s, x: with_constants(s, x, ROOT_2_OVER_PI, 0.0447),
        "0.0447 for 0.044715",
    ),
    "cubic_with_digits_swapped": (
        lambda s, x: with_constants(s, x, ROOT_2_OVER_PI, 0.044751),
        "0.044751 for 0.044715",
    ),
    "root_of_one_decimal": (lambda s, x: with_constants(s, x, 0.8, CUBIC), "sqrt(2 / pi) is written 0.8"),
    "root_of_four_digits": (
        lambda s, x: with_constants(s, x, 0.7979, CUBIC),
        "sqrt(2 / pi) is written 0.7979",
    ),
    "root_upside_down": (
        lambda s, x: with_constants(s, x, math.sqrt(math.pi / 2), CUBIC),
        "sqrt(pi / 2) for sqrt(2 / pi)",
    ),
    "square_for_cube": (
        lambda s, x: with_constants(s, x, ROOT_2_OVER_PI, CUBIC, 2.0),
        "the polynomial has x^2 for x^3",
    ),
    "fifth_power_for_cube": (
        lambda s, x: with_constants(s, x, ROOT_2_OVER_PI, CUBIC, 5.0),
        "the polynomial has x^5 for x^3",
    ),
    "without_inner_x": (without_inner_x, "the tanh takes an even polynomial"),
    "slope_in_the_tanh": (
        lambda s, x: s.Mul(s.Mul(x, 0.5), s.Add(s.Tanh(s.Mul(1.702, x)), 1.0)),
        "tanh takes 1.702 x",
        {"allowed": ("Swish",)},
    ),
    "quick": (
        lambda s, x: s.Mul(x, s.Sigmoid(s.Mul(1.702, x))),
        "x sigmoid(1.702 x) is another approximation, a Swish",
        {"allowed": ("Swish",)},
    ),
    "without_half": (lambda s, x: s.Mul(x, s.Add(s.Erf(s.Div(x, ROOT_2)), 1.0)), "the factor 0.5 is missing"),
    "twice_half": (lambda s, x: s.Mul(by_erf(s, x), 0.5), "0.5 occurs twice", {"anchor": "y"}),
    "one_subtracted": (
        lambda s, x: s.Mul(s.Mul(x, 0.5), s.Sub(s.Erf(s.Div(x, ROOT_2)), 1.0)),
        "1 is subtracted from erf",
    ),
    "erf_subtracted": (
        lambda s, x: s.Mul(s.Mul(x, 0.5), s.Sub(1.0, s.Erf(s.Div(x, ROOT_2)))),
        "erf is subtracted from 1",
    ),
    "half_for_one": (
        lambda s, x: s.Mul(s.Mul(x, 0.5), s.Add(s.Erf(s.Div(x, ROOT_2)), 0.5)),
        "0.5 is added to erf where 1 should be",
    ),
    "sum_for_product": (
        lambda s, x: s.Mul(0.5, s.Add(x, s.Erf(s.Div(x, ROOT_2)))),
        "x is added and does not multiply",
    ),
    "of_two_inputs": (
        lambda s, x, z: s.Mul(s.Mul(x, 0.5), s.Add(s.Erf(s.Div(z, ROOT_2)), 1.0)),
        "erf reads another value",
        {"second": "z"},
    ),
    "shifted": (
        lambda s, x: s.Mul(s.Mul(x, 0.5), s.Add(s.Erf(s.Div(s.Add(x, 0.01), ROOT_2)), 1.0)),
        "erf takes x + 0.01",
    ),
    "tanh_of_the_erf_argument": (
        lambda s, x: s.Mul(s.Mul(x, 0.5), s.Add(s.Tanh(s.Div(x, ROOT_2)), 1.0)),
        "tanh replaces erf",
        {"allowed": ("Swish",)},
    ),
    "rounded_to_half": (rounded, "erf is rounded to float16"),
}

NEAR_MISSES = near_misses("Gelu", "gelu", TABLE)
