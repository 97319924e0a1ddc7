"""x - log(sum(exp(x))), the logarithm in it by itself, and exp(x) / (1 + sum(exp(x)))."""

from functools import partial

import numpy as np

from . import references as ref
from .case import Sketch
from .softmax import LAST, ROW, log_total, shares, shifted
from .unary import Entry, spellings


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

SPELLINGS = [
    *spellings("LogSoftmax", "log_softmax", ref.log_softmax, LOG_SOFTMAX, ROW),
    *spellings("ReduceLogSumExp", "log_sum_exp", ref.reduce_log_sum_exp, LOG_SUM_EXP),
    *spellings("SoftmaxPlusOne", "softmax_plus_one", ref.softmax_plus_one, PLUS_ONE, ROW),
]
