"""Pointwise operations that are not what they look like: a sign, a constant or an operand is wrong."""

import numpy as np

from .activations import limited_softplus, sigmoid, softplus, tanh
from .case import Sketch
from .unary import near_misses


def quotient(s: Sketch, e: str, one: float) -> str:
    return s.Div(e, s.Add(e, one))


SIGMOID = {
    "without_sign": (lambda s, x: s.Div(1.0, s.Add(1.0, s.Exp(x))), "exp(x) for exp(-x)"),
    "two": (lambda s, x: s.Div(1.0, s.Add(2.0, s.Exp(s.Neg(x)))), "2 for 1"),
    "two_above": (lambda s, x: s.Div(2.0, s.Add(1.0, s.Exp(s.Neg(x)))), "the numerator is 2"),
    "base_two": (lambda s, x: s.Div(1.0, s.Add(1.0, s.Pow(2.0, s.Neg(x)))), "the base is 2 and not e"),
    "tanh_of_x": (lambda s, x: s.Mul(0.5, s.Add(1.0, s.Tanh(x))), "tanh(x) for tanh(x / 2)"),
    "share_with_two": (lambda s, x: quotient(s, s.Exp(x), 2.0), "exp(x) / (exp(x) + 2)"),
    "of_two_inputs": (
        lambda s, x, z: s.Div(s.Exp(x), s.Add(1.0, s.Exp(z))),
        "two values",
        {"second": "z"},
    ),
}

SWISH = {
    "of_two_inputs": (lambda s, x, z: s.Mul(x, s.Sigmoid(z)), "two values", {"second": "z"}),
    "squared_gate": (lambda s, x: s.Mul(x, s.Pow(s.Sigmoid(x), 2.0)), "the gate is squared"),
    "shifted_gate": (lambda s, x: s.Mul(x, s.Sigmoid(s.Add(x, 1.0))), "the gate reads x + 1"),
    "even_gate": (lambda s, x: s.Mul(x, s.Sigmoid(s.Mul(x, x))), "the gate reads x^2"),
    "sum_for_product": (lambda s, x: s.Add(x, s.Sigmoid(x)), "the gate is added"),
    "tanh_gate": (lambda s, x: s.Mul(x, s.Tanh(x)), "the gate is a tanh"),
    "alpha_per_channel": (
        lambda s, x: s.Mul(x, s.Sigmoid(s.Mul(x, np.linspace(0.5, 1.5, 6)))),
        "alpha differs from channel to channel",
        {"allowed": ("Sigmoid",)},
    ),
    "quotient_with_two": (lambda s, x: s.Div(x, s.Add(2.0, s.Exp(s.Neg(x)))), "2 for 1"),
    "doubled": (
        lambda s, x: s.Mul(2.0, s.Mul(x, sigmoid(s, x))),
        "twice a Swish",
        {"anchor": "y", "allowed": ("Swish", "Sigmoid")},
    ),
}

SOFTPLUS = {
    "base_two": (lambda s, x: s.Log(s.Add(1.0, s.Pow(2.0, x))), "the base is 2 and not e"),
    "log_of_base_two": (
        lambda s, x: s.Div(s.Log(s.Add(1.0, s.Exp(x))), float(np.log(2))),
        "the logarithm has base 2",
        {"anchor": "y", "allowed": ("Softplus",)},
    ),
    "two": (lambda s, x: s.Log(s.Add(2.0, s.Exp(x))), "2 for 1"),
    "early_limit": (
        lambda s, x: limited_softplus(s, x, limit=5.0),
        "x replaces the logarithm from 5 on, where they still differ",
        {"anchor": "y", "allowed": ("Softplus",)},
    ),
    "limit_the_wrong_way": (
        lambda s, x: s.Where(s.Less(x, 20.0), x, s.Softplus(x)),
        "x replaces the logarithm below the limit",
        {"anchor": "y", "allowed": ("Softplus",)},
    ),
    "stable_with_a_wrong_sign": (
        lambda s, x: s.Add(s.Max(x, 0.0), s.Log(s.Add(1.0, s.Exp(s.Abs(x))))),
        "exp(|x|) for exp(-|x|): the softplus of |x|, and more",
        {"anchor": "y", "allowed": ("Softplus",)},
    ),
}

MISH = {
    "sigmoid_for_tanh": (lambda s, x: s.Mul(x, s.Sigmoid(s.Softplus(x))), "a sigmoid replaces the tanh"),
    "relu_for_softplus": (lambda s, x: s.Mul(x, s.Tanh(s.Relu(x))), "a relu replaces the softplus"),
    "without_x": (lambda s, x: s.Tanh(softplus(s, x)), "x does not multiply"),
    "of_two_inputs": (lambda s, x, z: s.Mul(x, s.Tanh(s.Softplus(z))), "two values", {"second": "z"}),
}

TANH = {
    "first_power_only": (
        lambda s, x: s.Div(s.Sub(s.Exp(x), 1.0), s.Add(s.Exp(x), 1.0)),
        "exp(x) for exp(2x)",
    ),
    "sum_above": (
        lambda s, x: s.Div(s.Add(s.Exp(x), s.Exp(s.Neg(x))), s.Sub(s.Exp(x), s.Exp(s.Neg(x)))),
        "numerator and denominator changed places",
    ),
    "sine_only": (lambda s, x: s.Mul(0.5, s.Sub(s.Exp(x), s.Exp(s.Neg(x)))), "the denominator is missing"),
    "halved": (lambda s, x: s.Mul(0.5, tanh(s, x)), "half of it", {"anchor": "y", "allowed": ("Tanh",)}),
}

NEAR_MISSES = [
    *near_misses("Sigmoid", "sigmoid", SIGMOID),
    *near_misses("Swish", "swish", SWISH),
    *near_misses("Softplus", "softplus", SOFTPLUS),
    *near_misses("Mish", "mish", MISH),
    *near_misses("Tanh", "tanh", TANH),
]
