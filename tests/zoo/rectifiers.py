"""Pointwise operations in straight pieces: max(x, 0), its square and leaky form, hard and soft sigmoids."""

from functools import partial

from . import references as ref
from .case import Sketch
from .unary import Entry, spellings


def positive(s: Sketch, x: str) -> str:
    return s.Greater(x, 0.0)


def six(s: Sketch, x: str) -> str:
    """clip(x + 3, 0, 6)."""
    return s.Clip(s.Add(x, 3.0), 0.0, 6.0)


def six_by_limits(s: Sketch, x: str) -> str:
    return s.Min(s.Max(s.Add(3.0, x), 0.0), 6.0)


def sloped(s: Sketch, x: str, alpha: float, beta: float) -> str:
    return s.Add(s.Mul(x, alpha), beta)


RELU: dict[str, Entry] = {
    "maximum": lambda s, x: s.Max(x, 0.0),
    "maximum_zero_first": (lambda s, x: s.Max(0.0, x), {"opset": 11}),
    "clip": lambda s, x: s.Clip(x, 0.0),
    "clip_opset_11": (lambda s, x: s.Clip(x, 0.0), {"opset": 11}),
    "where_greater": lambda s, x: s.Where(positive(s, x), x, 0.0),
    "where_less": lambda s, x: s.Where(s.Less(x, 0.0), 0.0, x),
    "where_greater_or_equal": lambda s, x: s.Where(s.GreaterOrEqual(x, 0.0), x, 0.0),
    "mask_times_x": lambda s, x: s.Mul(x, s.Cast(positive(s, x), to="float32")),
    "mean_with_absolute_value": lambda s, x: s.Mul(0.5, s.Add(x, s.Abs(x))),
    "negated_minimum": lambda s, x: s.Neg(s.Min(s.Neg(x), 0.0)),
    "as_one_node": lambda s, x: s.Relu(x),
}

SQUARED: dict[str, Entry] = {
    "product": lambda s, x: s.Mul(s.Relu(x, name="r"), "r"),
    "power": lambda s, x: s.Pow(s.Relu(x), 2.0),
    "power_opset_11": (lambda s, x: s.Pow(s.Relu(x), 2.0), {"opset": 11}),
    "integer_power": (lambda s, x: s.Pow(s.Relu(x), s.const(2, "int64")), {"opset": 18}),
    "of_a_maximum": lambda s, x: s.Pow(s.Max(x, 0.0), 2.0),
    "of_a_clip": lambda s, x: s.Mul(s.Clip(x, 0.0, name="r"), "r"),
    "x_times_relu": lambda s, x: s.Mul(x, s.Relu(x)),
    "where": lambda s, x: s.Where(positive(s, x), s.Mul(x, x), 0.0),
}

LEAKY: dict[str, Entry] = {
    "where": lambda s, x: s.Where(positive(s, x), x, s.Mul(x, 0.01)),
    "where_less": (lambda s, x: s.Where(s.Less(x, 0.0), s.Mul(0.01, x), x), {"opset": 11}),
    "maximum": lambda s, x: s.Max(x, s.Mul(0.01, x)),
    "two_halves": lambda s, x: s.Sub(s.Relu(x), s.Mul(0.01, s.Relu(s.Neg(x)))),
    "two_limits": lambda s, x: s.Add(s.Max(x, 0.0), s.Mul(s.Min(x, 0.0), 0.01)),
    "as_one_node": lambda s, x: s.LeakyRelu(x),
}

LEAKY_02: dict[str, Entry] = {
    "alpha_0.2": lambda s, x: s.Where(positive(s, x), x, s.Mul(x, 0.2)),
    "alpha_0.2_maximum": lambda s, x: s.Max(s.Mul(x, 0.2), x),
    "alpha_0.2_as_divisor": lambda s, x: s.Max(s.Div(x, 5.0), x),
    "alpha_0.2_as_one_node": lambda s, x: s.LeakyRelu(x, alpha=0.2),
}

LEAK_OF_A_SCALED_VALUE: dict[str, Entry] = {
    "minimum": (
        lambda s, x: s.Min(x, s.Mul(0.01, x, name="scaled")),
        {"attributes": {"alpha": 100.0}, "wanted": lambda x: ref.leaky_relu(x / 100, alpha=100)},
    ),
    "slopes_on_both_sides": (
        lambda s, x: s.Where(positive(s, x), s.Mul(x, 0.5, name="scaled"), s.Mul(x, 0.125)),
        {"attributes": {"alpha": 0.25}, "wanted": lambda x: ref.leaky_relu(x / 2, alpha=0.25)},
    ),
}

SOFTSIGN: dict[str, Entry] = {
    "plain": lambda s, x: s.Div(x, s.Add(s.Abs(x), 1.0)),
    "one_first": (lambda s, x: s.Div(x, s.Add(1.0, s.Abs(x))), {"opset": 11}),
    "reciprocal": lambda s, x: s.Mul(s.Reciprocal(s.Add(1.0, s.Abs(x))), x),
    "absolute_value_by_maximum": lambda s, x: s.Div(x, s.Add(1.0, s.Max(x, s.Neg(x)))),
    "absolute_value_by_root": lambda s, x: s.Div(x, s.Add(1.0, s.Sqrt(s.Mul(x, x)))),
    "as_one_node": lambda s, x: s.Softsign(x),
}

HARD_SWISH: dict[str, Entry] = {
    "clip_over_six": lambda s, x: s.Div(s.Mul(x, six(s, x)), 6.0),
    "clip_over_six_opset_11": (lambda s, x: s.Mul(x, s.Div(six(s, x), 6.0)), {"opset": 11}),
    "clip_times_sixth": lambda s, x: s.Mul(s.Mul(six(s, x), 1 / 6), x),
    "limits_over_six": (lambda s, x: s.Mul(x, s.Div(six_by_limits(s, x), 6.0)), {"opset": 18}),
    "hard_sigmoid": lambda s, x: s.Mul(x, s.HardSigmoid(x, alpha=1 / 6, beta=0.5)),
    "slope_inside": lambda s, x: s.Mul(s.Clip(sloped(s, x, 1 / 6, 0.5), 0.0, 1.0), x),
    "as_one_node": lambda s, x: s.HardSwish(x),
}

HARD_SIGMOID: dict[str, Entry] = {
    "clip": lambda s, x: s.Clip(sloped(s, x, 0.2, 0.5), 0.0, 1.0),
    "limits": lambda s, x: s.Max(s.Min(sloped(s, x, 0.2, 0.5), 1.0), 0.0),
    "limits_swapped": (lambda s, x: s.Min(s.Max(sloped(s, x, 0.2, 0.5), 0.0), 1.0), {"opset": 11}),
    "as_one_node": lambda s, x: s.HardSigmoid(x),
}

SIXTH: dict[str, Entry] = {
    "clip_over_six": lambda s, x: s.Div(six(s, x), 6.0),
    "limits_over_six": lambda s, x: s.Mul(six_by_limits(s, x), 1 / 6),
    "of_six_as_one_node": lambda s, x: s.HardSigmoid(x, alpha=1 / 6),
}

LEAK = {"alpha": 0.2}
SLOPE = {"alpha": 1 / 6, "beta": 0.5}

SPELLINGS = [
    *spellings("Relu", "relu", ref.relu, RELU),
    *spellings("SquaredRelu", "squared_relu", ref.squared_relu, SQUARED),
    *spellings("LeakyRelu", "leaky_relu", ref.leaky_relu, LEAKY, {"alpha": 0.01}),
    *spellings("LeakyRelu", "leaky_relu", partial(ref.leaky_relu, **LEAK), LEAKY_02, LEAK),
    *spellings(
        "LeakyRelu", "leaky_relu", ref.leaky_relu, LEAK_OF_A_SCALED_VALUE, source="scaled", may_decline=True
    ),
    *spellings("Softsign", "softsign", ref.softsign, SOFTSIGN),
    *spellings("HardSwish", "hard_swish", ref.hard_swish, HARD_SWISH),
    *spellings("HardSigmoid", "hard_sigmoid", ref.hard_sigmoid, HARD_SIGMOID, {"alpha": 0.2, "beta": 0.5}),
    *spellings("HardSigmoid", "hard_sigmoid", partial(ref.hard_sigmoid, **SLOPE), SIXTH, SLOPE),
]
