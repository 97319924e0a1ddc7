"""x Phi(x) = x / 2 (1 + erf(x / sqrt(2))), and its approximation by tanh(sqrt(2 / pi) (x + 0.044715 x^3))."""

import math
from functools import partial

import numpy as np

from . import references as ref
from .case import Sketch
from .unary import Entry, spellings

ROOT_2 = math.sqrt(2)
ROOT_2_OVER_PI = math.sqrt(2 / math.pi)
CUBIC = 0.044715


def ends(s: Sketch, x: str, phi: str, how: str) -> str:
    """x / 2 * phi, phi = 1 + erf or 1 + tanh, in every order."""
    match how:
        case "half_last":
            return s.Mul(s.Mul(x, phi), 0.5)
        case "half_first":
            return s.Mul(0.5, s.Mul(phi, x))
        case "half_of_x":
            return s.Mul(s.Mul(x, 0.5), phi)
        case "half_of_phi":
            return s.Mul(x, s.Mul(0.5, phi))
        case "over_two":
            return s.Div(s.Mul(x, phi), 2.0)
        case "x_over_two":
            return s.Mul(phi, s.Div(x, 2.0))
    raise ValueError(how)


def erf(s: Sketch, x: str, how: str) -> str:
    """erf(x / sqrt(2)), by each way to write the constant."""
    match how:
        case "div":
            return s.Erf(s.Div(x, ROOT_2))
        case "mul":
            return s.Erf(s.Mul(x, 1 / ROOT_2))
        case "rounded":
            return s.Erf(s.Mul(s.const(0.70710678), x))
        case "root_computed":
            return s.Erf(s.Div(x, s.Sqrt(s.const(2.0))))
        case "root_of_half":
            return s.Erf(s.Mul(x, s.Sqrt(s.const(0.5))))
        case "reciprocal":
            return s.Erf(s.Mul(x, s.Reciprocal(s.const(ROOT_2))))
        case "power":
            return s.Erf(s.Mul(x, s.Pow(s.const(2.0), -0.5)))
        case "from_double":
            return s.Erf(s.Div(x, s.Cast(s.const(ROOT_2, "float64"), to="float32")))
    raise ValueError(how)


def by_erf(s: Sketch, x: str, constant: str = "div", end: str = "half_last", one_first: bool = False) -> str:
    bell = erf(s, x, constant)
    return ends(s, x, s.Add(1.0, bell) if one_first else s.Add(bell, 1.0), end)


def cube(s: Sketch, x: str, how: str) -> str:
    match how:
        case "pow":
            return s.Pow(x, 3.0)
        case "pow_int":
            return s.Pow(x, s.const(3, "int64"))
        case "muls":
            return s.Mul(s.Mul(x, x), x)
    raise ValueError(how)


def inner(s: Sketch, x: str, how: str, cubed: str) -> str:
    """sqrt(2 / pi) (x + 0.044715 x^3)."""
    match how:
        case "plain":
            return s.Mul(ROOT_2_OVER_PI, s.Add(x, s.Mul(CUBIC, cube(s, x, cubed))))
        case "horner":
            return s.Mul(s.Mul(x, ROOT_2_OVER_PI), s.Add(1.0, s.Mul(s.Mul(x, CUBIC), x)))
        case "distributed":
            cubic = s.Mul(cube(s, x, cubed), CUBIC * ROOT_2_OVER_PI)
            return s.Add(s.Mul(x, ROOT_2_OVER_PI), cubic)
        case "root_computed":
            return s.Mul(s.Add(s.Mul(cube(s, x, cubed), CUBIC), x), s.Sqrt(s.const(2 / math.pi)))
        case "digits":
            return s.Mul(s.const(0.7978845608028654), s.Add(s.Mul(cube(s, x, cubed), s.const(0.044715)), x))
        case "two_over":
            two_over_pi = s.Div(s.const(2.0), s.const(math.pi))
            return s.Mul(s.Add(x, s.Mul(cube(s, x, cubed), CUBIC)), s.Sqrt(two_over_pi))
    raise ValueError(how)


def by_tanh(
    s: Sketch,
    x: str,
    constant: str = "plain",
    cubed: str = "pow",
    end: str = "half_last",
    first: bool = False,
) -> str:
    t = s.Tanh(inner(s, x, constant, cubed))
    return ends(s, x, s.Add(1.0, t) if first else s.Add(t, 1.0), end)


def by_sigmoid(s: Sketch, x: str, how: str) -> str:
    """(1 + tanh(u)) / 2 = sigmoid(2u)."""
    if how == "doubled":
        return s.Mul(x, s.Sigmoid(s.Mul(2.0, inner(s, x, "plain", "pow"))))
    return s.Mul(s.Sigmoid(s.Mul(s.Mul(x, 2 * ROOT_2_OVER_PI), s.Add(1.0, s.Mul(s.Mul(x, x), CUBIC)))), x)


def complement(s: Sketch, x: str) -> str:
    """1 - erf(-x / sqrt(2)), as an erfc is exported."""
    return s.Mul(s.Mul(x, 0.5), s.Sub(1.0, s.Erf(s.Div(s.Neg(x), ROOT_2))))


def distributed(s: Sketch, x: str) -> str:
    half = s.Mul(x, 0.5)
    return s.Add(half, s.Mul(half, s.Erf(s.Mul(x, 1 / ROOT_2))))


def normal_distribution(s: Sketch, x: str) -> str:
    return s.Mul(x, s.Add(0.5, s.Mul(0.5, s.Erf(s.Div(x, ROOT_2)))))


def with_a_bias(s: Sketch, x: str) -> str:
    return by_erf(s, s.Add(x, s.const(np.linspace(-0.5, 0.5, 6)), name="biased"))


EXACT: dict[str, Entry] = {
    "plain": by_erf,
    **{f"opset_{n}": (by_erf, {"opset": n}) for n in (11, 13, 18, 20, 23)},
    "inverse_root_times": partial(by_erf, constant="mul", end="half_of_x"),
    "inverse_root_of_eight_digits": partial(by_erf, constant="rounded", end="half_of_phi"),
    "root_computed": partial(by_erf, constant="root_computed", one_first=True),
    "root_of_half": partial(by_erf, constant="root_of_half", end="x_over_two"),
    "root_inverted": partial(by_erf, constant="reciprocal", end="half_first"),
    "root_by_power": partial(by_erf, constant="power", end="over_two"),
    "root_cast_from_double": partial(by_erf, constant="from_double"),
    "half_of_x": partial(by_erf, end="half_of_x"),
    "half_of_phi": partial(by_erf, end="half_of_phi"),
    "half_first": partial(by_erf, end="half_first"),
    "over_two": partial(by_erf, end="over_two", one_first=True),
    "complement": complement,
    "distributed": distributed,
    "normal_distribution": normal_distribution,
    "constants_as_nodes": (by_erf, {"inline": True}),
    "symbolic_shape": (by_erf, {"shape": ("batch", "sequence", 6)}),
    "half_precision_in_float32": (by_erf, {"half": True}),
    "after_a_bias": (
        with_a_bias,
        {"source": "biased", "wanted": lambda x: ref.gelu(x + np.linspace(-0.5, 0.5, 6))},
    ),
    "as_one_node": (lambda s, x: s.Gelu(x), {"opset": 20}),
}

BY_TANH: dict[str, Entry] = {
    "plain": by_tanh,
    **{f"opset_{n}": (by_tanh, {"opset": n}) for n in (11, 18, 23)},
    "cube_by_integer_power": partial(by_tanh, cubed="pow_int", end="half_of_x"),
    "cube_by_products": partial(by_tanh, cubed="muls", first=True),
    "horner": partial(by_tanh, constant="horner", end="half_of_phi"),
    "distributed": partial(by_tanh, constant="distributed", cubed="muls"),
    "root_computed": partial(by_tanh, constant="root_computed", end="over_two"),
    "root_computed_from_pi": partial(by_tanh, constant="two_over", end="x_over_two"),
    "all_digits": partial(by_tanh, constant="digits", end="half_first"),
    "by_sigmoid": partial(by_sigmoid, how="doubled"),
    "by_sigmoid_with_folded_constants": partial(by_sigmoid, how="folded"),
    "constants_as_nodes": (by_tanh, {"inline": True}),
    "double_precision": (by_tanh, {"dtype": "float64"}),
    "as_one_node": (lambda s, x: s.Gelu(x, approximate="tanh"), {"opset": 20}),
}

SPELLINGS = [
    *spellings("Gelu", "gelu", ref.gelu, EXACT, {"approximate": "none"}),
    *spellings("Gelu", "tanh_gelu", partial(ref.gelu, approximate="tanh"), BY_TANH, {"approximate": "tanh"}),
]
