"""Sums of powers with learned factors: PolyReLU, PolyNorm, and the corrected ReLU."""

import numpy as np

from .case import Sketch
from .unary import Entry, near_misses, spellings

CUBIC, SQUARE, LINEAR, CONSTANT = 0.3125, -0.40625, 0.7, 0.15
EPSILON = 1e-6
POLY = {"cubic": CUBIC, "square": SQUARE, "linear": LINEAR, "constant": CONSTANT}
FACTOR = 0.0125


def weighted(s: Sketch, cubed: str, squared: str, once: str) -> str:
    total = s.Add(s.Mul(cubed, CUBIC), s.Mul(SQUARE, squared))
    return s.Add(s.Add(total, s.Mul(once, LINEAR)), CONSTANT)


def powers(s: Sketch, r: str) -> str:
    return weighted(s, s.Pow(r, 3.0), s.Pow(r, 2.0), r)


def horner(s: Sketch, r: str) -> str:
    inner = s.Add(s.Mul(s.Add(s.Mul(r, CUBIC), SQUARE), r), LINEAR)
    return s.Add(s.Mul(inner, r), CONSTANT)


def normalised(s: Sketch, u: str, epsilon: float = EPSILON) -> str:
    mean = s.ReduceMean(s.Pow(u, 2.0), axes=[-1], keepdims=1)
    return s.Mul(u, s.Reciprocal(s.Sqrt(s.Add(mean, epsilon))))


def poly_norm(s: Sketch, x: str) -> str:
    cubed, squared = s.Pow(x, 3.0), s.Pow(x, 2.0)
    return weighted(s, normalised(s, cubed), normalised(s, squared), normalised(s, x))


def poly_norm_by_division(s: Sketch, x: str) -> str:
    def over(u: str) -> str:
        square = s.ReduceMean(s.Mul(u, u), axes=[-1], keepdims=1)
        return s.Div(u, s.Sqrt(s.Add(EPSILON, square)))

    squared = s.Mul(x, x)
    return weighted(s, over(s.Mul(squared, x)), over(squared), over(x))


def bump(s: Sketch, x: str) -> str:
    return s.Mul(s.Mul(x, FACTOR), s.Exp(s.Div(s.Neg(s.Pow(x, 2.0)), 2.0)))


def of_powers(x: np.ndarray) -> np.ndarray:
    r = np.maximum(x, 0)
    return CUBIC * r**3 + SQUARE * r**2 + LINEAR * r + CONSTANT


def rms(u: np.ndarray) -> np.ndarray:
    return u / np.sqrt((u * u).mean(-1, keepdims=True) + EPSILON)


def of_rows(x: np.ndarray) -> np.ndarray:
    return CUBIC * rms(x**3) + SQUARE * rms(x**2) + LINEAR * rms(x) + CONSTANT


def corrected(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + FACTOR * x * np.exp(-(x**2) / 2)


RELU: dict[str, Entry] = {
    "powers": lambda s, x: powers(s, s.Relu(x)),
    "horner": lambda s, x: horner(s, s.Relu(x)),
    "of_a_maximum": (lambda s, x: powers(s, s.Max(x, 0.0)), {"opset": 13}),
}
NORM: dict[str, Entry] = {
    "reciprocal": poly_norm,
    "division": poly_norm_by_division,
    "opset_11": (poly_norm, {"opset": 11}),
}
CORRECTED: dict[str, Entry] = {
    "plain": lambda s, x: s.Add(s.Relu(x), bump(s, x)),
    "half_inside": lambda s, x: s.Add(
        s.Mul(s.Exp(s.Mul(s.Mul(x, x), -0.5)), s.Mul(FACTOR, x)), s.Max(x, 0.0)
    ),
}
SPELLINGS = [
    *spellings("PolyRelu", "poly_relu", of_powers, RELU, POLY),
    *spellings("PolyNorm", "poly_norm", of_rows, NORM, {**POLY, "epsilon": EPSILON}),
    *spellings("CRRelu", "crrelu", corrected, CORRECTED, {"factor": FACTOR}),
]

NEAR_MISSES = [
    *near_misses(
        "PolyRelu",
        "poly_relu",
        {
            "of_x_itself": (powers, "the powers are of x, not of max(x, 0)"),
            "fourth_power": (
                lambda s, x: weighted(s, s.Pow(s.Relu(x, name="r"), 4.0), s.Pow("r", 2.0), "r"),
                "the highest power is the fourth",
            ),
            "no_cubic_term": (
                lambda s, x: s.Add(s.Mul(s.Pow(s.Relu(x, name="r"), 2.0), SQUARE), s.Mul("r", LINEAR)),
                "there is no cubic term",
                {"allowed": ("Relu", "SquaredRelu")},
            ),
        },
    ),
    *near_misses(
        "PolyNorm",
        "poly_norm",
        {
            "two_epsilons": (
                lambda s, x: weighted(
                    s, normalised(s, s.Pow(x, 3.0), 1e-3), normalised(s, s.Pow(x, 2.0)), normalised(s, x)
                ),
                "the first norm has another epsilon",
                {"allowed": ("RMSNormalization",)},
            ),
            "not_all_normalised": (
                lambda s, x: weighted(s, normalised(s, s.Pow(x, 3.0)), normalised(s, s.Pow(x, 2.0)), x),
                "x itself is not normalised",
                {"allowed": ("RMSNormalization",)},
            ),
        },
    ),
    *near_misses(
        "CRRelu",
        "crrelu",
        {
            "other_width": (
                lambda s, x: s.Add(s.Relu(x), s.Mul(s.Mul(x, FACTOR), s.Exp(s.Neg(s.Pow(x, 2.0))))),
                "the exponent is x^2, not half of it",
                {"allowed": ("Relu",)},
            ),
            "without_x": (
                lambda s, x: s.Add(s.Relu(x), s.Mul(s.Exp(s.Div(s.Neg(s.Pow(x, 2.0)), 2.0)), FACTOR)),
                "x does not multiply the exponential",
                {"allowed": ("Relu",)},
            ),
        },
    ),
]
