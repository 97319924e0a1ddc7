"""exp(x) / sum(exp(x)), its logarithm, the logarithm of its denominator, and exp(x) / (1 + sum(exp(x)))."""

from functools import partial

import numpy as np

from . import references as ref
from .case import Sketch
from .unary import Entry, spellings

LAST = (-1,)
EULER = float(np.e)


def shifted(s: Sketch, x: str, axes: tuple[int, ...] = LAST) -> str:
    return s.Sub(x, s.ReduceMax(x, axes=axes))


def shares(s: Sketch, x: str, axes: tuple[int, ...] = LAST, name: str | None = None) -> str:
    """The exponentials over their sum."""
    e = s.Exp(x)
    return s.op("Div", e, s.ReduceSum(e, axes=axes), name=name)


def log_total(s: Sketch, x: str, axes: tuple[int, ...] = LAST) -> str:
    return s.Log(s.ReduceSum(s.Exp(x), axes=axes))


def by_reciprocal(s: Sketch, x: str) -> str:
    e = s.Exp(shifted(s, x))
    return s.Mul(s.Reciprocal(s.ReduceSum(e, axes=LAST)), e)


def by_mean(s: Sketch, x: str) -> str:
    e = s.Exp(shifted(s, x))
    return s.Div(e, s.Mul(s.ReduceMean(e, axes=LAST), 6.0))


def with_dropped_axes(s: Sketch, x: str) -> str:
    e = s.Exp(s.Sub(x, s.Unsqueeze(s.ReduceMax(x, axes=LAST, keepdims=0), axes=LAST)))
    return s.Div(e, s.Unsqueeze(s.ReduceSum(e, axes=LAST, keepdims=0), axes=LAST))


def between_transposes(s: Sketch, x: str) -> str:
    turned = s.Transpose(x, perm=[0, 2, 1], name="turned")
    return s.Transpose(shares(s, shifted(s, turned), name="inner"), perm=[0, 2, 1])


def plus_one(s: Sketch, x: str, floor: float | None) -> str:
    """The one is shifted with the rest, by the maximum of the row or by the larger of that and a floor."""
    top = s.ReduceMax(x, axes=LAST)
    top = top if floor is None else s.Max(top, floor)
    e = s.Exp(s.Sub(x, top))
    return s.Div(e, s.Add(s.Exp(s.Neg(top)), s.ReduceSum(e, axes=LAST)))


def plain_plus_one(s: Sketch, x: str, left: bool) -> str:
    e = s.Exp(x)
    total = s.ReduceSum(e, axes=LAST)
    return s.Div(e, s.Add(1.0, total) if left else s.Add(total, 1.0))


def with_a_zero_logit(s: Sketch, x: str) -> str:
    longer = s.Concat(x, s.const(np.zeros((4, 1))), axis=-1)
    return s.Slice(s.Softmax(longer, axis=-1), s.const([0]), s.const([6]), s.const([1]))


def wrong_shift_of_the_one(s: Sketch, x: str) -> str:
    """Of x it is nothing; of the shifted x it is the operation."""
    e = s.Exp(s.Sub(x, s.ReduceMax(x, axes=LAST), name="shifted"))
    return s.Div(e, s.Add(s.ReduceSum(e, axes=LAST), 1.0))


def shifted_along_another_axis(s: Sketch, x: str) -> str:
    """Of x it is nothing, as the shift does not cancel; of the shifted x it is the operation."""
    return shares(s, s.Sub(x, s.ReduceMax(x, axes=[0]), name="shifted"))


def totalled_along_another_axis(s: Sketch, x: str) -> str:
    """A softmax of the shifted x along the axis of the sum; the shift is a detour."""
    return shares(s, s.Sub(x, s.ReduceMax(x, axes=LAST), name="shifted"), (0,))


def of_scaled_logits(s: Sketch, x: str) -> str:
    return s.Softmax(s.Mul(x, 0.125, name="logits"), axis=-1)


SOFTMAX: dict[str, Entry] = {
    "plain": lambda s, x: shares(s, shifted(s, x)),
    **{f"opset_{n}": (lambda s, x: shares(s, shifted(s, x)), {"opset": n}) for n in (11, 13, 18, 20, 23)},
    "unshifted": shares,
    "shifted_by_a_constant": lambda s, x: shares(s, s.Sub(x, 4.0)),
    "shifted_by_the_mean": lambda s, x: shares(s, s.Sub(x, s.ReduceMean(x, axes=LAST))),
    "shifted_by_the_maximum_of_all": lambda s, x: shares(s, shifted(s, x, (0, 1))),
    "negated_maximum_added": lambda s, x: shares(s, s.Add(s.Neg(s.ReduceMax(x, axes=LAST)), x)),
    "two_exponentials": lambda s, x: s.Div(
        s.Exp(shifted(s, x)), s.ReduceSum(s.Exp(shifted(s, x)), axes=LAST)
    ),
    "times_reciprocal": (by_reciprocal, {"opset": 18}),
    "over_mean_times_width": by_mean,
    "total_by_l1_norm": lambda s, x: s.Div(s.Exp(x), s.ReduceL1(s.Exp(x), axes=LAST)),
    "dropped_axes_restored": with_dropped_axes,
    "dropped_axes_restored_opset_18": (with_dropped_axes, {"opset": 18}),
    "power_of_e": lambda s, x: s.Div(s.Pow(EULER, x), s.ReduceSum(s.Pow(EULER, x), axes=LAST)),
    "exponential_of_log_softmax": lambda s, x: s.Exp(s.Sub(shifted(s, x), log_total(s, shifted(s, x)))),
    "exponential_less_log_sum_exp": lambda s, x: s.Exp(s.Sub(x, s.ReduceLogSumExp(x, axes=LAST))),
    "exponential_less_log_sum": lambda s, x: s.Exp(s.Sub(x, s.ReduceLogSum(s.Exp(x), axes=LAST))),
    "along_the_first_axis": (
        lambda s, x: shares(s, shifted(s, x, (0,)), (0,)),
        {"attributes": {"axis": -2}, "wanted": partial(ref.softmax, axis=0)},
    ),
    "along_the_middle_axis": (
        lambda s, x: shares(s, shifted(s, x, (1,)), (-2,)),
        {"shape": (2, 3, 4), "attributes": {"axis": -2}, "wanted": partial(ref.softmax, axis=1)},
    ),
    "between_transposes": (
        between_transposes,
        {"shape": (2, 3, 4), "also": ("inner",), "attributes": {}, "wanted": partial(ref.softmax, axis=1)},
    ),
    "half_precision_in_float32": (lambda s, x: shares(s, shifted(s, x)), {"half": True}),
    "double_precision": (lambda s, x: shares(s, shifted(s, x)), {"dtype": "float64"}),
    "symbolic_shape": (
        lambda s, x: shares(s, shifted(s, x)),
        {"shape": ("batch", "sequence", 6), "opset": 18},
    ),
    "constants_as_nodes": (lambda s, x: shares(s, shifted(s, x)), {"inline": True, "opset": 18}),
    "as_one_node": lambda s, x: s.Softmax(x, axis=-1),
    "as_one_node_axis_from_the_front": (lambda s, x: s.Softmax(x, axis=2), {"shape": (2, 3, 4)}),
    "as_one_node_opset_11": (lambda s, x: s.Softmax(x, axis=1), {"opset": 11}),
    "as_one_node_of_scaled_logits": (
        of_scaled_logits,
        {"source": "logits", "wanted": lambda x: ref.softmax(x / 8)},
    ),
    "shifted_along_another_axis": (
        shifted_along_another_axis,
        {"source": "shifted", "wanted": lambda x: ref.softmax(x - x.max(0, keepdims=True))},
    ),
    "totalled_along_another_axis": (
        totalled_along_another_axis,
        {
            "source": "shifted",
            "attributes": {"axis": -2},
            "wanted": lambda x: ref.softmax(x - x.max(-1, keepdims=True), axis=0),
        },
    ),
}

LOG_SOFTMAX: dict[str, Entry] = {
    "plain": lambda s, x: s.Sub(shifted(s, x), log_total(s, shifted(s, x))),
    "opset_11": (lambda s, x: s.Sub(shifted(s, x), log_total(s, shifted(s, x))), {"opset": 11}),
    "opset_18": (lambda s, x: s.Sub(shifted(s, x), log_total(s, shifted(s, x))), {"opset": 18}),
    "unshifted": lambda s, x: s.Sub(x, log_total(s, x)),
    "total_shifted_back": lambda s, x: s.Sub(
        x, s.Add(s.ReduceMax(x, axes=LAST), log_total(s, shifted(s, x)))
    ),
    "negated_log_added": lambda s, x: s.Add(s.Neg(log_total(s, x)), x),
    "log_of_the_reciprocal_total": lambda s, x: s.Add(
        x, s.Log(s.Reciprocal(s.ReduceSum(s.Exp(x), axes=LAST)))
    ),
    "less_log_sum_exp": lambda s, x: s.Sub(x, s.ReduceLogSumExp(x, axes=LAST)),
    "log_of_a_softmax": (lambda s, x: s.Log(s.Softmax(x, axis=-1)), {"may_decline": True}),
    "log_of_shares": (lambda s, x: s.Log(shares(s, shifted(s, x))), {"may_decline": True}),
    "as_one_node": lambda s, x: s.LogSoftmax(x, axis=1),
}

LOG_SUM_EXP: dict[str, Entry] = {
    "plain": lambda s, x: s.Add(s.ReduceMax(x, axes=LAST), log_total(s, shifted(s, x))),
    "maximum_last": (
        lambda s, x: s.Add(log_total(s, shifted(s, x)), s.ReduceMax(x, axes=LAST)),
        {"opset": 18},
    ),
    "unshifted": log_total,
    "by_reduce_log_sum": lambda s, x: s.ReduceLogSum(s.Exp(x), axes=LAST),
    "dropped_axis": (
        lambda s, x: s.Add(
            s.ReduceMax(x, axes=LAST, keepdims=0),
            s.Log(s.ReduceSum(s.Exp(shifted(s, x)), axes=LAST, keepdims=0)),
        ),
        {"wanted": partial(ref.reduce_log_sum_exp, keepdims=False)},
    ),
    "squeezed": (
        lambda s, x: s.Squeeze(
            s.Add(log_total(s, shifted(s, x)), s.ReduceMax(x, axes=LAST), name="kept"), axes=LAST
        ),
        {"wanted": partial(ref.reduce_log_sum_exp, keepdims=False), "also": ("kept",)},
    ),
    "as_one_node": lambda s, x: s.ReduceLogSumExp(x, axes=LAST),
    "as_one_node_opset_18": (lambda s, x: s.ReduceLogSumExp(x, axes=LAST), {"opset": 18}),
}

PLUS_ONE: dict[str, Entry] = {
    "unshifted": lambda s, x: plain_plus_one(s, x, left=False),
    "unshifted_one_first": (lambda s, x: plain_plus_one(s, x, left=True), {"opset": 11}),
    "shifted_by_the_maximum": lambda s, x: plus_one(s, x, None),
    "shifted_by_the_maximum_and_0": lambda s, x: plus_one(s, x, 0.0),
    "shifted_by_the_maximum_and_0_opset_18": (lambda s, x: plus_one(s, x, 0.0), {"opset": 18}),
    "shifted_by_the_maximum_and_1": lambda s, x: plus_one(s, x, 1.0),
    "exponential_less_softplus": lambda s, x: s.Exp(s.Sub(x, s.Softplus(s.ReduceLogSumExp(x, axes=LAST)))),
    "softmax_times_sigmoid": lambda s, x: s.Mul(
        s.Softmax(x, axis=-1), s.Sigmoid(s.ReduceLogSumExp(x, axes=LAST))
    ),
    "softmax_with_a_zero_logit": (with_a_zero_logit, {"may_decline": True}),
    "of_a_shifted_value": (
        wrong_shift_of_the_one,
        {"source": "shifted", "wanted": lambda x: ref.softmax_plus_one(x - x.max(-1, keepdims=True))},
    ),
}

ROW = {"axis": -1}
SPELLINGS = [
    *spellings("Softmax", "softmax", ref.softmax, SOFTMAX, ROW),
    *spellings("LogSoftmax", "log_softmax", ref.log_softmax, LOG_SOFTMAX, ROW),
    *spellings("ReduceLogSumExp", "log_sum_exp", ref.reduce_log_sum_exp, LOG_SUM_EXP),
    *spellings("SoftmaxPlusOne", "softmax_plus_one", ref.softmax_plus_one, PLUS_ONE, ROW),
]
