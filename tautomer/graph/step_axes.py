"""Along which axis the operands of an operator have to be cut, where its result is cut along one.

    (A B)[i, :] = A[i, :] B        rows of a product: rows of the first, all of the second

A rule gets the call, a fact per operand, the shape of the result and an axis of it that is longer than 1. It
returns an axis per operand, None for one that is taken whole. It raises `NotLocal` where a part of the result
needs more than a part of the operands, or where it cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import mul

from tautomer.graph.call import Call
from tautomer.graph.fact import Fact, Shape
from tautomer.graph.semantics.reductions import axes_of
from tautomer.graph.semantics.table import older
from tautomer.graph.shape_rules import given, known, numbers

Inputs = Sequence[Fact | None]
Axes = tuple[int | None, ...]
Rule = Callable[[Call, Inputs, Shape, int], Axes]


class NotLocal(Exception):
    """A part of the result needs more than a part of the operands."""


def operand_axes(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    """The axis of each operand that is cut where the result is cut along `axis`.

    Raises:
        NotLocal: there is none.
        Unknown: a shape or a content that decides it is not known.
    """
    rule = _RULES.get(call.op_type) if call.domain == "" else None
    if rule is None:
        raise NotLocal
    return rule(call, x, out, axis)


def _meets(x: Inputs, i: int, out: Shape, axis: int) -> int | None:
    """The axis of an operand that broadcasts along an axis of the result; None where it is repeated."""
    if not given(x, i):
        return None
    shape = known(x, i)
    own = axis - len(out) + len(shape)
    return None if own < 0 or shape[own] == 1 else own


def _pointwise(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    if older(call, 7) and (call.get("axis") is not None or call.op_type == "PRelu"):
        raise NotLocal  # the operands meet at other axes
    return tuple(_meets(x, i, out, axis) for i in range(len(x)))


def _first(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    return (axis, *(None for _ in x[1:]))


def _reduced(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    rank = len(known(x, 0))
    gone = axes_of(call, numbers(call, x, "axes", 1), rank)
    kept = range(rank) if call.get("keepdims", 1) else [i for i in range(rank) if i not in gone]
    if kept[axis] in gone:
        raise NotLocal
    return (kept[axis], *(None for _ in x[1:]))


def _chosen(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    if int(call.get("axis", -1)) % len(out) == axis:
        raise NotLocal
    return _first(call, x, out, axis)


def _turned(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    order = call.get("perm")
    return (len(out) - 1 - axis if order is None else int(order[axis]),)


def _regrouped(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    """An axis survives when as many elements come before it as after, and it is as long."""
    shape = known(x, 0)
    if 0 in shape:
        raise NotLocal
    before, wanted = [1, *accumulate(shape, mul)], [1, *accumulate(out, mul)][axis]
    for own, size in enumerate(shape):
        if before[own] == wanted and size == out[axis]:
            return (own, *(None for _ in x[1:]))
    raise NotLocal


def _expanded(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    return (_meets(x, 0, out, axis), None)


def _joined(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    if int(call.get("axis", 1)) % len(out) == axis:
        raise NotLocal
    return tuple(axis for _ in x)


def _sliced(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    axes = numbers(call, x, "axes", 3)
    if axes is None:
        axes = list(range(len(numbers(call, x, "starts", 1) or [])))
    if axis in [one % len(out) for one in axes]:
        raise NotLocal
    return _first(call, x, out, axis)


def _gathered(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    along, more = int(call.get("axis", 0)) % len(known(x, 0)), len(known(x, 1)) - 1
    if axis < along:
        return axis, None
    if axis > along + more:
        return axis - more, None
    return None, axis - along


def _picked(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    """An index for every element of the result; along the other axes it may take a part of the first ones."""
    if axis == int(call.get("axis", 0)) % len(out) or known(x, 0)[axis] != out[axis]:
        raise NotLocal
    return axis, axis


def _product(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    a, b = len(known(x, 0)), len(known(x, 1))
    if a < 2 and b < 2:
        raise NotLocal
    if b >= 2 and axis == len(out) - 1:
        return None, b - 1
    if a >= 2 and axis == len(out) - (2 if b >= 2 else 1):
        return a - 2, None
    matrices = out if a >= 2 and b >= 2 else (*out, 1)  # batches are counted from before the matrix
    return _meets(x, 0, matrices, axis), _meets(x, 1, matrices, axis)


def _triangle(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    if axis >= len(out) - 2:
        raise NotLocal
    return _first(call, x, out, axis)


def _affine(call: Call, x: Inputs, out: Shape, axis: int) -> Axes:
    row, column = int(bool(call.get("transA", 0))), int(not call.get("transB", 0))
    first, second = (row, None) if axis == 0 else (None, column)
    return first, second, *(_meets(x, 2, out, axis) for _ in x[2:])


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Sum", "Mean", "Max", "Min"), _pointwise),
    **dict.fromkeys(("PRelu", "Clip", "Where", "And", "Or", "Xor"), _pointwise),
    **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"), _pointwise),
    **dict.fromkeys(("Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Tanh", "Sigmoid", "Relu"), _first),
    **dict.fromkeys(("Sin", "Cos", "Tan", "Sinh", "Cosh", "Abs", "Sign", "Neg", "Not"), _first),
    **dict.fromkeys(("Floor", "Ceil", "Round", "Identity", "Cast", "CastLike", "Dropout"), _first),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), _reduced),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"), _reduced),
    "ReduceSumSquare": _reduced,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _regrouped),
    "Concat": _joined,
    "Expand": _expanded,
    "Gather": _gathered,
    "GatherElements": _picked,
    "Gemm": _affine,
    "MatMul": _product,
    "Slice": _sliced,
    "TopK": _chosen,
    "Transpose": _turned,
    "Trilu": _triangle,
}
