"""x / sqrt(mean(x^2) + epsilon) * gamma, as it is written step by step."""

from functools import partial

import numpy as np
import onnx

from . import references
from . import rms_norm_settings as settings
from .case import Feeds, Sketch, Spelling
from .norm_parts import GAMMA, SHAPE, WIDTH, affine, mean_square, quotient

SCALES = {"vector": GAMMA, "row": GAMMA.reshape(1, 1, WIDTH), "scalar": 0.625, "one_plus": GAMMA - 1}


def rms_norm(
    *,
    opset: int = 17,
    shape: tuple[int | str, ...] = SHAPE,
    inline: bool = False,
    squared: str = "pow",
    averaged: str = "reduce_mean",
    epsilon: float = 1e-6,
    epsilon_first: bool = False,
    division: str = "reciprocal_of_root",
    scale: str | None = "vector",
    order: str = "right",
) -> onnx.ModelProto:
    s = Sketch(inline=inline)
    x = s.input("x", shape)
    wide = mean_square(s, x, squared, averaged)
    power = s.Add(epsilon, wide) if epsilon_first else s.Add(wide, epsilon)
    gamma = s.input("gamma", [WIDTH]) if scale == "dynamic" else scale and s.const(SCALES[scale])
    if scale == "one_plus":
        gamma = s.Add(1.0, gamma)
    if order == "scale_first":
        y = s.op("Div", s.Mul(x, gamma), s.Sqrt(power), name="y")
    elif order == "folded":
        y = s.op("Mul", s.Mul(s.Reciprocal(s.Sqrt(power)), gamma), x, name="y")
    elif order == "over_root_by_gamma":
        y = s.op("Div", x, s.Div(s.Sqrt(power), gamma), name="y")
    else:
        y = affine(s, quotient(s, x, power, division), order, gamma, None)
    return s.model(y, opset)


def wanted(fed: Feeds, *, scale: str | None, epsilon: float) -> np.ndarray:
    gamma = {None: 1.0, "scalar": 0.625}.get(scale, GAMMA)
    return references.rms_norm(fed["x"], fed["gamma"] if scale == "dynamic" else gamma, epsilon=epsilon)


def spelling(name: str, **choices: object) -> Spelling:
    epsilon = choices.get("epsilon", 1e-6)
    return Spelling(
        f"rms_norm_{name}",
        partial(rms_norm, **choices),
        "RMSNormalization",
        {"axis": -1, "epsilon": epsilon},
        partial(wanted, scale=choices.get("scale", "vector"), epsilon=epsilon),
        may_decline=choices.get("averaged") == "product",
    )


TABLE: dict[str, dict[str, object]] = {
    "plain": {},
    **{f"opset_{n}": {"opset": n, "order": "left"} for n in (11, 13, 14, 18, 20, 21, 23)},
    "constants_as_nodes": {"inline": True, "opset": 18},
    "square_by_mul": {"squared": "mul"},
    "square_by_mul_over_root": {"squared": "mul", "division": "sqrt_div", "opset": 18},
    "square_by_integer_pow": {"squared": "pow_int", "division": "sqrt_div"},
    "square_by_pow_of_vector": {"squared": "pow_vector", "division": "one_over_root"},
    "square_of_absolute_value": {"squared": "abs", "division": "half_power"},
    "square_by_two_negations": {"squared": "neg"},
    "reduce_sum_square": {"squared": "sum_square", "opset": 18},
    "reduce_sum_square_opset_11": {"squared": "sum_square", "opset": 11, "division": "sqrt_div"},
    "reduce_l2_squared": {"squared": "norm", "division": "sqrt_div"},
    "reduce_l2_over_root_of_width": {"squared": "scaled_norm", "opset": 18},
    "sum_over_width": {"averaged": "sum_div", "division": "sqrt_div"},
    "sum_times_inverse_width": {"averaged": "sum_mul", "squared": "mul"},
    "inverse_width_times_sum": {"averaged": "mul_sum", "division": "minus_half_power"},
    "sum_of_scaled_squares": {"averaged": "scaled_sum", "opset": 11},
    "sum_over_width_from_shape": {"averaged": "sum_by_shape", "opset": 13},
    "mean_as_a_product_with_ones": {"averaged": "product"},
    "dropped_axis_restored": {"averaged": "squeezed", "opset": 13},
    "dropped_axis_restored_opset_18": {"averaged": "squeezed", "opset": 18, "squared": "mul"},
    "root_then_reciprocal_over": {"division": "one_over_root", "epsilon_first": True},
    "reciprocal_then_root": {"division": "root_of_reciprocal"},
    "minus_half_power": {"division": "minus_half_power", "squared": "mul"},
    "divided_by_half_power": {"division": "half_power"},
    "divided_by_reciprocal": {"division": "div_by_reciprocal"},
    "root_by_exponential_of_log": {"division": "exp_log"},
    "epsilon_first": {"epsilon_first": True, "division": "sqrt_div"},
    "epsilon_first_and_large": {"epsilon_first": True, "epsilon": 0.1, "squared": "mul"},
    "epsilon_large": {"epsilon": 0.1, "division": "sqrt_div"},
    "epsilon_tiny": {"epsilon": 1e-12},
    "epsilon_tiny_first": {"epsilon": 1e-12, "epsilon_first": True, "division": "sqrt_div"},
    "gamma_before_division": {"order": "scale_first"},
    "gamma_folded_into_the_inverse_root": {"order": "folded"},
    "gamma_folded_into_the_root": {"order": "over_root_by_gamma"},
    "gamma_as_a_row": {"scale": "row"},
    "gamma_as_a_scalar": {"scale": "scalar", "order": "left"},
    "gamma_stored_minus_one": {"scale": "one_plus", "division": "minus_half_power"},
    "gamma_is_an_input": {"scale": "dynamic"},
    "gamma_is_an_input_and_first": {"scale": "dynamic", "order": "left", "division": "sqrt_div"},
    "without_gamma": {"scale": None},
    "symbolic_batch_and_sequence": {"shape": ("batch", "sequence", WIDTH), "opset": 18},
    "rank_2": {"shape": (7, WIDTH), "squared": "mul"},
    "rank_4": {"shape": (2, 3, 4, WIDTH), "opset": 20},
}

SPELLINGS = [*(spelling(name, **choices) for name, choices in TABLE.items()), *settings.SPELLINGS]
