"""Not exp(x) / sum(exp(x)) nor one of its relatives, though it looks so."""

from .case import Sketch
from .softmax import LAST, log_total, shares, shifted
from .unary import near_misses


def total(s: Sketch, x: str, axes: tuple[int, ...] = LAST) -> str:
    return s.ReduceSum(x, axes=axes)


def over(s: Sketch, x: str, denominator: str) -> str:
    """The shifted exponentials over something."""
    return s.Div(s.Exp(shifted(s, x)), denominator)


def without_keepdims(s: Sketch, x: str) -> str:
    e = s.Exp(s.Sub(x, s.ReduceMax(x, axes=LAST, keepdims=0)))
    return s.Div(e, s.ReduceSum(e, axes=LAST, keepdims=0))


def of_the_first_half(s: Sketch, x: str) -> str:
    e = s.Exp(shifted(s, x))
    return s.Div(e, total(s, s.Slice(e, s.const([0]), s.const([3]), s.const([1]))))


def rounded(s: Sketch, x: str) -> str:
    e = s.Cast(s.Cast(s.Exp(shifted(s, x)), to="float16"), to="float32")
    return s.Div(e, total(s, e))


def with_a_wrong_one(s: Sketch, x: str, one: str) -> str:
    return over(s, x, s.Add(one, total(s, s.Exp(shifted(s, x)))))


def biased(s: Sketch, x: str, by: float) -> str:
    e = s.Exp(x)
    return s.Div(e, s.Add(total(s, e), by))


SOFTMAX = {
    "numerator_shifted_along_another_axis": (
        lambda s, x: s.Div(s.Exp(shifted(s, x, (0,))), total(s, s.Exp(shifted(s, x)))),
        "the maxima of the numerator and of the denominator run over different axes",
    ),
    "two_axes_in_turn": (
        lambda s, x: s.Div(s.Exp(x), s.Mul(total(s, s.Exp(x)), total(s, s.Exp(x), (0,)))),
        "the sums over both axes divide",
    ),
    "shift_in_the_numerator_only": (
        lambda s, x: over(s, x, total(s, s.Exp(x))),
        "the maximum is subtracted in the numerator only",
    ),
    "shift_in_the_denominator_only": (
        lambda s, x: s.Div(s.Exp(x), total(s, s.Exp(shifted(s, x)))),
        "the maximum is subtracted in the denominator only",
    ),
    "base_two": (
        lambda s, x: s.Div(s.Pow(2.0, x), total(s, s.Pow(2.0, x))),
        "the base is 2 and not e",
    ),
    "base_of_three_digits": (
        lambda s, x: s.Div(s.Pow(2.718, x), total(s, s.Pow(2.718, x))),
        "the base is 2.718 and not e",
    ),
    "total_of_squares": (
        lambda s, x: over(s, x, s.ReduceSumSquare(s.Exp(shifted(s, x)), axes=LAST)),
        "the denominator sums the squares",
    ),
    "length": (
        lambda s, x: over(s, x, s.ReduceL2(s.Exp(shifted(s, x)), axes=LAST)),
        "the denominator is the length and not the sum",
    ),
    "mean_for_total": (
        lambda s, x: over(s, x, s.ReduceMean(s.Exp(shifted(s, x)), axes=LAST)),
        "the denominator is the mean",
    ),
    "maximum_for_total": (
        lambda s, x: over(s, x, s.ReduceMax(s.Exp(shifted(s, x)), axes=LAST)),
        "the denominator is the maximum",
    ),
    "epsilon_in_the_denominator": (
        lambda s, x: over(s, x, s.Add(total(s, s.Exp(shifted(s, x))), 1e-3)),
        "0.001 is added to the denominator",
    ),
    "negated_denominator": (
        lambda s, x: s.Div(s.Exp(x), total(s, s.Exp(s.Neg(x)))),
        "the denominator sums exp(-x)",
    ),
    "without_exponential": (
        lambda s, x: s.Div(s.Abs(x), total(s, s.Abs(x))),
        "shares of absolute values and not of exponentials",
    ),
    "other_temperature_below": (
        lambda s, x: s.Div(s.Exp(s.Mul(x, 0.5)), total(s, s.Exp(x))),
        "numerator and denominator have different temperatures",
    ),
    "of_two_inputs": (
        lambda s, x, z: s.Div(s.Exp(x), total(s, s.Exp(z))),
        "numerator and denominator read different values",
        {"second": "z"},
    ),
    "axis_dropped_on_a_square": (
        without_keepdims,
        "keepdims is 0: rows are divided by the sums of columns",
        {"shape": (6, 6)},
    ),
    "of_the_first_half": (of_the_first_half, "half of the row gives the denominator"),
    "squared": (
        lambda s, x: s.Pow(shares(s, shifted(s, x)), 2.0),
        "the result is squared",
        {"anchor": "y", "allowed": ("Softmax",)},
    ),
    "rounded_to_half": (rounded, "the exponentials are rounded to float16"),
    "plus_one": (
        lambda s, x: biased(s, x, 1.0),
        "1 is added to the denominator",
        {"allowed": ("SoftmaxPlusOne",)},
    ),
}

LOG_SOFTMAX = {
    "without_log": (lambda s, x: s.Sub(shifted(s, x), total(s, s.Exp(shifted(s, x)))), "there is no log"),
    "total_not_shifted_back": (
        lambda s, x: s.Sub(x, log_total(s, shifted(s, x))),
        "the maximum is subtracted in the total only",
    ),
    "shifted_numerator_only": (
        lambda s, x: s.Sub(shifted(s, x), log_total(s, x)),
        "the maximum is subtracted outside the total only",
        {"allowed": ("ReduceLogSumExp",)},
    ),
    "base_two": (
        lambda s, x: s.Sub(x, s.Mul(log_total(s, x), 1.4426950408889634)),
        "the logarithm has base 2",
        {"allowed": ("ReduceLogSumExp",)},
    ),
    "log_of_mean": (
        lambda s, x: s.Sub(x, s.Log(s.ReduceMean(s.Exp(x), axes=LAST))),
        "the logarithm is that of the mean",
    ),
    "shifted_along_another_axis": (
        lambda s, x: s.Sub(shifted(s, x, (0,)), log_total(s, shifted(s, x))),
        "the two maxima run over different axes",
        {"allowed": ("ReduceLogSumExp",)},
    ),
    "epsilon_in_the_log": (
        lambda s, x: s.Log(s.Add(shares(s, shifted(s, x)), 1e-3)),
        "0.001 is added to the shares",
        {"allowed": ("Softmax",)},
    ),
}

LOG_SUM_EXP = {
    "shift_added_unasked": (
        lambda s, x: s.Add(s.ReduceMax(x, axes=LAST), log_total(s, x)),
        "the maximum is added and never subtracted",
        {"anchor": "y"},
    ),
    "shift_not_restored": (
        lambda s, x: s.Mul(1.5, log_total(s, shifted(s, x))),
        "the maximum is subtracted and never added, and there is a factor",
        {"anchor": "y"},
    ),
    "log_of_mean": (lambda s, x: s.Log(s.ReduceMean(s.Exp(x), axes=LAST)), "the mean replaces the sum"),
    "plus_one": (
        lambda s, x: s.Log(s.Add(1.0, total(s, s.Exp(x)))),
        "1 is added to the sum",
        {"allowed": ("Softplus",)},
    ),
    "base_two": (lambda s, x: s.Log(total(s, s.Pow(2.0, x))), "the exponentials have base 2"),
}

PLUS_ONE = {
    "two": (lambda s, x: biased(s, x, 2.0), "2 is added to the denominator"),
    "half": (lambda s, x: biased(s, x, 0.5), "0.5 is added to the denominator"),
    "one_shifted_the_wrong_way": (
        lambda s, x: with_a_wrong_one(s, x, s.Exp(s.ReduceMax(x, axes=LAST))),
        "the one is multiplied by exp(max) and not by exp(-max)",
    ),
    "one_not_shifted_with_the_total": (
        lambda s, x: s.Div(s.Exp(x), s.Add(1.0, total(s, s.Exp(shifted(s, x))))),
        "the maximum is subtracted in the sum only",
    ),
    "one_taken_off": (lambda s, x: biased(s, x, -0.25), "0.25 is subtracted from the denominator"),
    "one_in_the_numerator": (
        lambda s, x: s.Div(s.Add(s.Exp(x), 1.0), s.Add(total(s, s.Exp(x)), 1.0)),
        "1 is added to the numerator too",
    ),
}

NEAR_MISSES = [
    *near_misses("Softmax", "softmax", SOFTMAX),
    *near_misses("LogSoftmax", "log_softmax", LOG_SOFTMAX),
    *near_misses("ReduceLogSumExp", "log_sum_exp", LOG_SUM_EXP),
    *near_misses("SoftmaxPlusOne", "softmax_plus_one", PLUS_ONE),
]
