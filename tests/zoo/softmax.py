"""exp(x) / sum(exp(x)), as it is written step by step."""

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

ROW = {"axis": -1}
SPELLINGS = [
    *spellings("Softmax", "softmax", ref.softmax, SOFTMAX, ROW),
]
