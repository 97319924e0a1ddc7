"""Smooth pointwise operations that are written with exp: sigmoids and their products, softplus, tanh."""

from functools import partial

from . import references as ref
from .case import Sketch
from .unary import Entry, spellings


def sigmoid(s: Sketch, x: str) -> str:
    return s.Div(1.0, s.Add(1.0, s.Exp(s.Neg(x))))


def share(s: Sketch, x: str) -> str:
    e = s.Exp(x)
    return s.Div(e, s.Add(e, 1.0))


def two_sided(s: Sketch, x: str) -> str:
    """A branch for each sign, so that neither exponential overflows."""
    small = s.Exp(s.Neg(s.Abs(x)))
    total = s.Add(1.0, small)
    return s.Where(s.Less(x, 0.0), s.Div(small, total), s.Reciprocal(total))


def softplus(s: Sketch, x: str) -> str:
    return s.Log(s.Add(s.Exp(x), 1.0))


def stable_softplus(s: Sketch, x: str) -> str:
    return s.Add(s.Max(x, 0.0), s.Log(s.Add(1.0, s.Exp(s.Neg(s.Abs(x))))))


def limited_softplus(s: Sketch, x: str, inner: str = "native", limit: float = 20.0) -> str:
    """x itself beyond the limit, where log(1 + exp(x)) is x to within rounding."""
    below = s.Softplus(x) if inner == "native" else softplus(s, x)
    return s.Where(s.Greater(x, limit), x, below)


def tanh(s: Sketch, x: str) -> str:
    e, f = s.Exp(x), s.Exp(s.Neg(x))
    return s.Div(s.Sub(e, f), s.Add(e, f))


def tanh_of_double(s: Sketch, x: str) -> str:
    e = s.Exp(s.Mul(x, 2.0))
    return s.Div(s.Sub(e, 1.0), s.Add(e, 1.0))


def mish_by_quotient(s: Sketch, x: str) -> str:
    """x (e^2 + 2e) / (e^2 + 2e + 2), e = exp(x): the tanh of the logarithm written out."""
    e = s.Exp(x)
    n = s.Mul(e, s.Add(e, 2.0))
    return s.Mul(x, s.Div(n, s.Add(n, 2.0)))


def silu_by_quotient(s: Sketch, x: str) -> str:
    return s.Div(x, s.Add(1.0, s.Exp(s.Neg(x))))


SIGMOID: dict[str, Entry] = {
    "plain": sigmoid,
    **{f"opset_{n}": (sigmoid, {"opset": n}) for n in (11, 18, 23)},
    "share": share,
    "reciprocal": lambda s, x: s.Reciprocal(s.Add(s.Exp(s.Mul(x, -1.0)), 1.0)),
    "minus_first_power": lambda s, x: s.Pow(s.Add(1.0, s.Exp(s.Neg(x))), -1.0),
    "exponential_inverted": lambda s, x: s.Div(1.0, s.Add(1.0, s.Reciprocal(s.Exp(x)))),
    "by_tanh": lambda s, x: s.Mul(0.5, s.Add(1.0, s.Tanh(s.Mul(0.5, x)))),
    "by_tanh_over_two": lambda s, x: s.Add(s.Div(s.Tanh(s.Div(x, 2.0)), 2.0), 0.5),
    "complement": lambda s, x: s.Sub(1.0, s.Reciprocal(s.Add(1.0, s.Exp(x)))),
    "two_sided": two_sided,
    "half_precision_in_float32": (sigmoid, {"half": True}),
    "double_precision": (sigmoid, {"dtype": "float64"}),
    "as_one_node": lambda s, x: s.Sigmoid(x),
}

SWISH: dict[str, Entry] = {
    "plain": lambda s, x: s.Mul(x, s.Sigmoid(x)),
    **{f"opset_{n}": (lambda s, x: s.Mul(x, s.Sigmoid(x)), {"opset": n}) for n in (11, 18, 23)},
    "sigmoid_first": lambda s, x: s.Mul(s.Sigmoid(x), x),
    "sigmoid_written_out": lambda s, x: s.Mul(x, sigmoid(s, x)),
    "quotient": silu_by_quotient,
    "share_of_exponentials": lambda s, x: s.Mul(share(s, x), x),
    "by_tanh": lambda s, x: s.Mul(s.Mul(x, 0.5), s.Add(s.Tanh(s.Mul(x, 0.5)), 1.0)),
    "half_precision_in_float32": (lambda s, x: s.Mul(x, s.Sigmoid(x)), {"half": True}),
    "symbolic_shape": (lambda s, x: s.Mul(x, s.Sigmoid(x)), {"shape": ("batch", "sequence", 6)}),
}


def scaled_swish(alpha: float, **options: object) -> Entry:
    return lambda s, x: s.Mul(x, s.Sigmoid(s.Mul(x, alpha))), {
        "attributes": {"alpha": alpha},
        "wanted": partial(ref.swish, alpha=alpha),
        **options,
    }


SCALED: dict[str, Entry] = {
    "quick_gelu": scaled_swish(1.702),
    "quick_gelu_opset_18": scaled_swish(1.702, opset=18),
    "alpha_half": scaled_swish(0.5),
    "alpha_two": scaled_swish(2.0, opset=13),
    "alpha_minus_one": scaled_swish(-1.0, may_decline=True),
    "alpha_first": (
        lambda s, x: s.Mul(s.Sigmoid(s.Mul(1.25, x)), x),
        {"attributes": {"alpha": 1.25}, "wanted": partial(ref.swish, alpha=1.25)},
    ),
    "alpha_as_divisor": (
        lambda s, x: s.Mul(x, s.Sigmoid(s.Div(x, 4.0))),
        {"attributes": {"alpha": 0.25}, "wanted": partial(ref.swish, alpha=0.25)},
    ),
    "alpha_in_a_quotient": (
        lambda s, x: s.Div(x, s.Add(1.0, s.Exp(s.Mul(-1.702, x)))),
        {"attributes": {"alpha": 1.702}, "wanted": partial(ref.swish, alpha=1.702)},
    ),
}

SOFTPLUS: dict[str, Entry] = {
    "plain": softplus,
    "one_first": (lambda s, x: s.Log(s.Add(1.0, s.Exp(x))), {"opset": 11}),
    "stable": stable_softplus,
    "stable_by_relu": lambda s, x: s.Add(s.Log(s.Add(s.Exp(s.Neg(s.Abs(x))), 1.0)), s.Relu(x)),
    "minus_log_sigmoid": (lambda s, x: s.Neg(s.Log(s.Sigmoid(s.Neg(x)))), {"may_decline": True}),
    "with_a_limit": limited_softplus,
    "with_a_limit_opset_18": (limited_softplus, {"opset": 18}),
    "with_a_limit_written_out": partial(limited_softplus, inner="exp"),
    "as_one_node": lambda s, x: s.Softplus(x),
}

MISH: dict[str, Entry] = {
    "plain": lambda s, x: s.Mul(x, s.Tanh(s.Softplus(x))),
    "opset_11": (lambda s, x: s.Mul(s.Tanh(s.Softplus(x)), x), {"opset": 11}),
    "softplus_written_out": lambda s, x: s.Mul(s.Tanh(softplus(s, x)), x),
    "softplus_stable": (lambda s, x: s.Mul(x, s.Tanh(stable_softplus(s, x))), {"opset": 18}),
    "softplus_with_a_limit": lambda s, x: s.Mul(x, s.Tanh(limited_softplus(s, x))),
    "quotient": mish_by_quotient,
    "as_one_node": (lambda s, x: s.Mish(x), {"opset": 18}),
}

TANH: dict[str, Entry] = {
    "plain": tanh,
    "of_double": tanh_of_double,
    "one_minus": lambda s, x: s.Sub(1.0, s.Div(2.0, s.Add(s.Exp(s.Mul(2.0, x)), 1.0))),
    "by_sigmoid": lambda s, x: s.Sub(s.Mul(2.0, s.Sigmoid(s.Mul(2.0, x))), 1.0),
    "hyperbolic_sine_over_cosine": lambda s, x: s.Div(s.Sinh(x), s.Cosh(x)),
    "as_one_node": lambda s, x: s.Tanh(x),
}

SPELLINGS = [
    *spellings("Sigmoid", "sigmoid", ref.sigmoid, SIGMOID),
    *spellings("Swish", "swish", ref.swish, SWISH, {"alpha": 1.0}),
    *spellings("Swish", "swish", ref.swish, SCALED),
    *spellings("Softplus", "softplus", ref.softplus, SOFTPLUS),
    *spellings("Mish", "mish", ref.mish, MISH),
    *spellings("Tanh", "tanh", ref.tanh, TANH),
]
