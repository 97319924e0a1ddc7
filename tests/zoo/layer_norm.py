"""(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * gamma + beta, as it is written step by step."""

from functools import partial

import numpy as np
import onnx

from . import layer_norm_settings as settings
from . import references
from .case import Feeds, Sketch, Spelling
from .norm_parts import BETA, GAMMA, SHAPE, WIDTH, affine, average, mean_square, quotient, square

SCALES = {
    None: None,
    "vector": GAMMA,
    "row": GAMMA.reshape(1, 1, WIDTH),
    "scalar": 1.75,
    "one_plus": GAMMA - 1,
    "dynamic": None,
}


def centred(s: Sketch, x: str, mean: str, how: str) -> str:
    match how:
        case "sub":
            return s.Sub(x, mean)
        case "add_negated":
            return s.Add(x, s.Neg(mean))
        case "negated_add":
            return s.Add(s.Mul(-1.0, mean), x)
        case "reversed":
            return s.Neg(s.Sub(mean, x))
        case "one_minus":
            return s.Sub(s.Sub(x, 3.0), s.Sub(mean, 3.0))
    raise ValueError(how)


def spread(s: Sketch, x: str, mean: str, off: str, how: str, squared: str, averaged: str) -> str:
    """The variance: of the centred value, of a second one like it, or by moments."""
    match how:
        case "centred":
            return mean_square(s, off, squared, averaged)
        case "two_subs":
            return mean_square(s, s.Sub(x, mean), squared, averaged)
        case "two_means":
            return mean_square(s, s.Sub(x, average(s, x, averaged)), squared, averaged)
        case "moments":
            return s.Sub(mean_square(s, x, squared, averaged), square(s, mean, squared))
        case "clamped_moments":
            return s.Max(s.Sub(mean_square(s, x, squared, averaged), square(s, mean, squared)), 0.0)
        case "cross":
            return average(s, s.Mul(off, x), averaged)
    raise ValueError(how)


def layer_norm(
    *,
    opset: int = 17,
    shape: tuple[int | str, ...] = SHAPE,
    inline: bool = False,
    mean: str = "reduce_mean",
    centre: str = "sub",
    variance: str = "centred",
    squared: str = "mul",
    averaged: str = "reduce_mean",
    epsilon: float = 1e-5,
    epsilon_first: bool = False,
    division: str = "sqrt_div",
    scale: str | None = "vector",
    shift: bool = True,
    order: str = "right",
) -> onnx.ModelProto:
    s = Sketch(inline=inline)
    x = s.input("x", shape)
    middle = average(s, x, mean)
    off = centred(s, x, middle, centre)
    wide = spread(s, x, middle, off, variance, squared, averaged)
    power = s.Add(epsilon, wide) if epsilon_first else s.Add(wide, epsilon)
    gamma = s.input("gamma", [WIDTH]) if scale == "dynamic" else scale and s.const(SCALES[scale])
    if scale == "one_plus":
        gamma = s.Add(gamma, 1.0)
    beta = s.const(BETA) if shift else None
    if order == "folded":
        inverse = s.Mul(s.Reciprocal(s.Sqrt(power)), gamma)
        y = s.Add(s.Mul(x, inverse), s.Sub(beta, s.Mul(middle, inverse)), name="y")
    elif order == "scale_first":
        y = s.Add(quotient(s, s.Mul(off, gamma), power, division), beta, name="y")
    else:
        y = affine(s, quotient(s, off, power, division), order, gamma, beta)
    return s.model(y, opset)


def wanted(fed: Feeds, *, scale: str | None, shift: bool, epsilon: float) -> np.ndarray:
    gamma = {None: 1.0, "scalar": 1.75}.get(scale, GAMMA)
    gamma = fed["gamma"] if scale == "dynamic" else gamma
    return references.layer_norm(fed["x"], gamma, BETA if shift else 0.0, epsilon=epsilon)


def spelling(name: str, **choices: object) -> Spelling:
    epsilon = choices.get("epsilon", 1e-5)
    return Spelling(
        f"layer_norm_{name}",
        partial(layer_norm, **choices),
        "LayerNormalization",
        {"axis": -1, "epsilon": epsilon},
        partial(
            wanted, scale=choices.get("scale", "vector"), shift=choices.get("shift", True), epsilon=epsilon
        ),
        may_decline=choices.get("mean") == "product",
    )


TABLE: dict[str, dict[str, object]] = {
    "plain": {},
    **{f"opset_{n}": {"opset": n, "squared": "pow"} for n in (11, 13, 14, 18, 20, 21, 23)},
    "constants_as_nodes": {"inline": True, "opset": 18},
    "square_by_pow": {"squared": "pow", "division": "reciprocal_of_root", "opset": 18},
    "square_by_integer_pow": {"squared": "pow_int", "division": "minus_half_power"},
    "square_by_pow_of_vector": {"squared": "pow_vector", "opset": 13},
    "square_of_absolute_value": {"squared": "abs"},
    "square_by_two_negations": {"squared": "neg", "division": "half_power"},
    "reduce_sum_square": {"squared": "sum_square", "opset": 18, "division": "one_over_root"},
    "reduce_l2_squared": {"squared": "norm", "division": "root_of_reciprocal"},
    "reduce_l2_over_root_of_width": {"squared": "scaled_norm", "opset": 20},
    "sums_over_width": {"mean": "sum_div", "averaged": "sum_div"},
    "sums_times_inverse_width": {"mean": "sum_mul", "averaged": "mul_sum"},
    "sum_of_scaled_terms": {"mean": "scaled_sum", "averaged": "scaled_sum", "opset": 11},
    "sums_over_width_from_shape": {"mean": "sum_by_shape", "averaged": "sum_by_shape"},
    "mean_as_a_product_with_ones": {"mean": "product", "averaged": "product"},
    "dropped_axis_restored": {"mean": "squeezed", "averaged": "squeezed", "opset": 11},
    "dropped_axis_restored_opset_18": {"mean": "squeezed", "averaged": "squeezed", "opset": 18},
    "negated_mean_added": {"centre": "add_negated"},
    "negated_mean_first": {"centre": "negated_add", "order": "left"},
    "mean_minus_x_negated": {"centre": "reversed", "squared": "pow"},
    "both_shifted_before_centring": {"centre": "one_minus"},
    "centred_twice": {"variance": "two_subs", "squared": "pow", "opset": 13},
    "mean_computed_twice": {"variance": "two_means"},
    "variance_by_moments": {"variance": "moments"},
    "variance_by_moments_clamped_at_0": {"variance": "clamped_moments", "division": "minus_half_power"},
    "variance_as_centred_times_raw": {"variance": "cross"},
    "epsilon_first": {"epsilon_first": True, "squared": "pow"},
    "epsilon_first_and_large": {"epsilon_first": True, "epsilon": 0.1},
    "epsilon_large": {"epsilon": 0.1, "division": "reciprocal_of_root", "opset": 18},
    "epsilon_tiny": {"epsilon": 1e-12, "squared": "pow"},
    "root_by_exponential_of_log": {"division": "exp_log"},
    "divided_by_reciprocal": {"division": "div_by_reciprocal"},
    "gamma_and_beta_first": {"order": "left"},
    "gamma_before_division": {"order": "scale_first"},
    "gamma_and_beta_folded_around_x": {"order": "folded"},
    "gamma_folded_variance_by_moments": {"order": "folded", "variance": "moments", "opset": 18},
    "gamma_as_a_row": {"scale": "row", "order": "left"},
    "gamma_as_a_scalar": {"scale": "scalar", "squared": "pow"},
    "gamma_stored_minus_one": {"scale": "one_plus", "division": "one_over_root"},
    "gamma_is_an_input": {"scale": "dynamic"},
    "without_beta": {"shift": False},
    "without_gamma": {"scale": None, "squared": "pow"},
    "without_gamma_and_beta": {"scale": None, "shift": False, "division": "reciprocal_of_root"},
    "symbolic_batch_and_sequence": {"shape": ("batch", "sequence", WIDTH), "squared": "pow", "opset": 18},
    "rank_2": {"shape": (7, WIDTH), "squared": "pow", "opset": 18},
    "rank_4": {"shape": (2, 3, 4, WIDTH), "division": "minus_half_power"},
}

SPELLINGS = [*(spelling(name, **choices) for name, choices in TABLE.items()), *settings.SPELLINGS]
