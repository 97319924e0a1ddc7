"""Reductions over axes, and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import CONCRETE, integer_list, kind_of
from tautomer.graph.semantics.domain import Axes, Mathematics, Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.semantics.table import meaning

_FLOAT64 = Float64()


def axes_of(call: Call, axes: list[int] | None, rank: int) -> Axes:
    """The axes of a reduction: given as an input or, in older opsets, as an attribute; none means all."""
    named = axes if axes is not None else call.get("axes")
    if not named:
        return () if call.get("noop_with_empty_axes", 0) else tuple(range(rank))
    if any(not -rank <= axis < rank for axis in named):
        raise ValueError(f"{call.op_type}: axes {named} of rank {rank}")
    return tuple(sorted({int(axis) % rank for axis in named}))


Reduction = Callable[[Any, Any, Axes, bool], Any]


def _reduction(name: str, function: Reduction, *, keeps_kind: bool = True) -> None:
    def apply(m: Mathematics, call: Call, x: Any, axes: Any = None) -> Any:
        kind = kind_of(m, x)
        named = None if axes is None else integer_list(m, axes)
        where = axes_of(call, named, len(kind.shape(x)))
        keepdims = bool(call.get("keepdims", 1))
        if kind is CONCRETE and not keeps_kind:
            # a root or a logarithm leaves the integers: ONNX computes it as a float and cuts it
            return np.asarray(function(_FLOAT64, x.astype(np.float64), where, keepdims)).astype(x.dtype)
        return function(kind, x, where, keepdims)

    apply.__doc__ = function.__doc__
    meaning(name)(apply)


def _log_sum_exp(m: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    """log(sum(exp(x))), shifted by the maximum so that nothing overflows."""
    top = m.amax(x, axes, True)
    top = m.where(m.isinf(top), 0.0, top)
    total = m.log(m.sum(m.exp(x - top), axes, True)) + top
    return total if keepdims else m.move(lambda a: np.squeeze(a, axes), total)


_reduction("ReduceSum", lambda m, x, axes, keep: m.sum(x, axes, keep))
_reduction("ReduceMean", lambda m, x, axes, keep: m.mean(x, axes, keep))
_reduction("ReduceMax", lambda m, x, axes, keep: m.amax(x, axes, keep))
_reduction("ReduceMin", lambda m, x, axes, keep: m.amin(x, axes, keep))
_reduction("ReduceProd", lambda m, x, axes, keep: m.prod(x, axes, keep))
_reduction("ReduceSumSquare", lambda m, x, axes, keep: m.sum(x * x, axes, keep))
_reduction("ReduceL1", lambda m, x, axes, keep: m.sum(m.abs(x), axes, keep))
_reduction("ReduceL2", lambda m, x, axes, keep: m.sqrt(m.sum(x * x, axes, keep)), keeps_kind=False)
_reduction("ReduceLogSum", lambda m, x, axes, keep: m.log(m.sum(x, axes, keep)), keeps_kind=False)
_reduction("ReduceLogSumExp", _log_sum_exp, keeps_kind=False)


def _extreme(name: str, pick: Callable[..., Any]) -> None:
    def apply(m: Mathematics, call: Call, x: Any) -> Any:
        array = m.concrete(x) if m.is_value(x) else np.asarray(x)
        axis, keepdims = int(call.get("axis", 0)), bool(call.get("keepdims", 1))
        if call.get("select_last_index", 0):
            found = array.shape[axis] - 1 - pick(np.flip(array, axis), axis=axis, keepdims=keepdims)
        else:
            found = pick(array, axis=axis, keepdims=keepdims)
        return np.asarray(found, dtype=np.int64)

    apply.__doc__ = f"Where along the axis the {name[3:].lower()}imum is."
    meaning(name)(apply)


_extreme("ArgMax", np.argmax)
_extreme("ArgMin", np.argmin)


def _running(name: str, combine: Callable[[Any, Any], Any], neutral: int) -> None:
    def apply(m: Mathematics, call: Call, x: Any, axis: Any) -> Any:
        kind = kind_of(m, x)
        along = integer_list(m, axis)[0]
        size = kind.shape(x)[along]
        if kind is CONCRETE and x.dtype.kind == "b":
            raise Unsupported(call.op_type, "of booleans")
        backward = bool(call.get("reverse", 0))
        fill = kind.constant(np.asarray(neutral))

        def shifted(value: Any, by: int) -> Any:
            def place(a: Any, f: Any) -> Any:
                a = np.moveaxis(a, along, -1)
                out = np.empty_like(a)
                out[...] = f
                if by < size:
                    out[..., slice(0, size - by) if backward else slice(by, None)] = (
                        a[..., by:] if backward else a[..., : size - by]
                    )
                return np.moveaxis(out, -1, along)

            return kind.move(place, value, fill)

        total, step = shifted(x, 1) if call.get("exclusive", 0) else x, 1
        while step < size:  # every number then covers twice as many: log2(n) steps, and only moves
            total, step = combine(total, shifted(total, step)), 2 * step
        return total

    apply.__doc__ = f"The running result of each position and those before it, for {name}."
    meaning(name)(apply)


_running("CumSum", lambda a, b: a + b, 0)
_running("CumProd", lambda a, b: a * b, 1)
