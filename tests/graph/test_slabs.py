"""Slabs: random expressions, cut along every axis that there is, give what they give as a whole, bit by bit.

The numbers are small and whole or halves of such, so that every order of additions gives the same sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from tautomer.graph.call import Call
from tautomer.graph.cuts import best_cut, cut_along, positions_of
from tautomer.graph.expression import Applied, Expression, Literal, Step, Stored
from tautomer.graph.mapped import part
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.slabs import ALL, assembled, rows, slabs
from tautomer.graph.step_facts import step_facts

M = Float64()
Array = np.ndarray
Draw = Callable[[Any], Any]
_LITTLE = 6  # elements of a slab in these tests


class _Maker:
    """An expression that grows step by step, with the value of each."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.steps: list[Step] = []
        self.values: list[Array] = []
        self.stored: dict[str, Array] = {}
        self.rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))

    def store(self, *shape: int) -> int:
        name = f"w{len(self.stored)}"
        self.stored[name] = self.rng.integers(-2, 3, shape).astype(np.float32)
        return self._put(Stored(name), self.stored[name].astype(np.float64))

    def literal(self, *numbers: int) -> int:
        array = np.array(numbers, np.int64)
        return self._put(Literal(array), array)

    def op(self, kind: str, *operands: int, version: int = 18, **attributes: Any) -> int:
        step = Applied(Call(kind, version=version, attributes=attributes), operands)
        self.steps.append(step)
        value = Expression(tuple(self.steps)).value(M, lambda name: M.constant(self.stored[name]))
        self.values.append(value)
        return len(self.steps) - 1

    def _put(self, step: Step, value: Array) -> int:
        self.steps.append(step)
        self.values.append(value)
        return len(self.steps) - 1

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


def _unary(make: _Maker, x: int) -> int:
    kind = make.pick("Neg", "Abs", "Relu", "Identity", "Cast", "Floor")
    return make.op(kind, x, **({"to": 1} if kind == "Cast" else {}))


def _with_another(make: _Maker, x: int) -> int:
    shape = make.values[x].shape
    sizes = [make.pick(size, 1) for size in shape][make.number(0, len(shape)) :]
    other = make.store(*sizes)
    kind = make.pick("Add", "Sub", "Mul", "Max", "Min", "Where")
    if kind == "Where":
        return make.op("Where", make.op("Less", x, other), other, x)
    return make.op(kind, *make.pick((x, other), (other, x)))


def _without_mean(make: _Maker, x: int) -> int:
    reduced = _reduce(make, x, keep=1)
    return make.op("Sub", x, reduced)


def _reduce(make: _Maker, x: int, keep: int | None = None) -> int:
    shape = make.values[x].shape
    axes = [axis for axis in range(len(shape)) if make.pick(True, False)] or [len(shape) - 1]
    count = int(np.prod([shape[axis] for axis in axes]))
    kinds = ["ReduceSum", "ReduceMax", "ReduceL1", "ReduceMin"] + ["ReduceMean"] * (count in (1, 2, 4))
    axes = [make.pick(axis, axis - len(shape)) for axis in axes]
    keepdims = make.pick(0, 1) if keep is None else keep
    if make.pick(True, False):
        return make.op(make.pick(*kinds), x, version=11, axes=axes, keepdims=keepdims)
    return make.op(make.pick(*kinds), x, make.literal(*axes), keepdims=keepdims)


def _transpose(make: _Maker, x: int) -> int:
    order = make.draw(st.permutations(range(make.values[x].ndim)))
    return make.op("Transpose", x, **make.pick({}, {"perm": list(order)}))


def _reshape(make: _Maker, x: int) -> int:
    shape = list(make.values[x].shape)
    kind = make.pick("merge", "split", "rows", "Flatten", "Unsqueeze", "Squeeze")
    if kind == "merge" and len(shape) > 1:
        at = make.number(0, len(shape) - 2)
        shape[at : at + 2] = [-1]
    elif kind == "split":
        at = make.number(0, len(shape) - 1)
        factors = [n for n in range(1, shape[at] + 1) if shape[at] % n == 0]
        first = make.pick(*factors)
        shape[at : at + 1] = [first, shape[at] // first]
    elif kind == "rows":
        shape = [make.pick(0, shape[0]), -1] if len(shape) > 1 else [-1]
    elif kind == "Flatten":
        return make.op("Flatten", x, axis=make.number(0, len(shape)))
    elif kind == "Unsqueeze":
        return make.op("Unsqueeze", x, make.literal(make.number(0, len(shape))))
    elif kind == "Squeeze" and 1 in shape:
        return make.op("Squeeze", x, make.literal(shape.index(1)))
    return make.op("Reshape", x, make.literal(*shape))


def _expand(make: _Maker, x: int) -> int:
    shape = [make.number(2, 3) if size == 1 else size for size in make.values[x].shape]
    return make.op("Expand", x, make.literal(*make.pick([], [2]), *shape))


def _concat(make: _Maker, x: int) -> int:
    shape = list(make.values[x].shape)
    axis = make.number(0, len(shape) - 1)
    shape[axis] = make.number(1, 3)
    return make.op(
        "Concat", *make.pick((x, make.store(*shape)), (x, x)), axis=axis - make.pick(0, len(shape))
    )


def _slice(make: _Maker, x: int) -> int:
    axis = make.number(0, make.values[x].ndim - 1)
    size = make.values[x].shape[axis]
    if make.pick(True, False):
        begin = make.number(0, size - 1)
        operands = [make.literal(begin), make.literal(make.number(begin + 1, size)), make.literal(axis)]
    else:
        operands = [make.literal(n) for n in (-1, -1 << 31, axis, -1)]
    return make.op("Slice", x, *operands)


def _gather(make: _Maker, x: int) -> int:
    axis = make.number(0, make.values[x].ndim - 1)
    size = make.values[x].shape[axis]
    picked = [make.number(-size, size - 1) for _ in range(make.number(1, 5))]
    return make.op("Gather", x, make.literal(*picked), axis=axis)


def _product(make: _Maker, x: int) -> int:
    shape = make.values[x].shape
    n = make.number(1, 4)
    if make.pick(True, False) or len(shape) < 2:
        batch = (2,) if len(shape) == 2 else shape[:-2]
        other = make.pick((), (n,), (*batch, n)) if len(shape) > 1 else (n,)
        return make.op("MatMul", x, make.store(*other[:-1], shape[-1], *other[-1:]))
    if len(shape) == 2 and make.pick(True, False):
        turn = make.pick(0, 1)
        other = make.store(*((n, shape[1]) if turn else (shape[1], n)))
        bias = make.store(*make.pick((n,), (1, n), (shape[0], 1)))
        return make.op("Gemm", x, other, bias, transB=turn)
    other = make.pick((shape[-2],), (n, shape[-2]), (*shape[:-2], n, shape[-2]))
    return make.op("MatMul", make.store(*other), x)


_STEPS = (
    _unary,
    _with_another,
    _without_mean,
    _reduce,
    _transpose,
    _reshape,
    _expand,
    _concat,
    _slice,
    _gather,
    _product,
)


@st.composite
def expressions(draw: Draw) -> _Maker:
    """An expression of up to five operators, and its value."""
    make = _Maker(draw)
    x = make.store(*draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    for grow in draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=5)):
        if make.values[x].ndim and make.values[x].size < 2000:
            x = grow(make, x)
    assume(make.values[x].size > 0)
    return make


def _facts(make: _Maker) -> Any:
    tensors = {name: ir.tensor(array, name=name) for name, array in make.stored.items()}
    return step_facts(Expression(tuple(make.steps)), tensors)


def _reader(make: _Maker, log: list[tuple[str, int | None, int]] | None = None) -> Any:
    def read(name: str, axis: int | None, index: Any) -> Any:
        taken = part(make.stored[name], axis, index)
        if log is not None:
            log.append((name, axis, taken.size))
        return M.constant(taken)

    return read


@given(expressions())
@settings(max_examples=400, deadline=None)
def test_every_cut_gives_the_value(make: _Maker) -> None:
    expression, facts, expected = Expression(tuple(make.steps)), _facts(make), make.values[-1]
    assert facts[-1].shape == expected.shape
    for axis, size in enumerate(expected.shape):
        cut = cut_along(expression, facts, axis) if size > 1 else None
        event(f"cut: {cut is not None}")
        if cut is None:
            continue
        found = np.full(expected.shape, np.nan)
        for index, value in slabs(expression, facts, M, _reader(make), cut, _LITTLE):
            found[(ALL,) * axis + (index,)] = value
        np.testing.assert_array_equal(found, expected)


@given(expressions())
@settings(max_examples=200, deadline=None)
def test_slabs_put_together_give_the_value(make: _Maker) -> None:
    expression, facts = Expression(tuple(make.steps)), _facts(make)
    event(f"cut: {best_cut(expression, facts, _LITTLE) is not None}")
    found = assembled(expression, facts, M, _reader(make), limit=_LITTLE)
    np.testing.assert_array_equal(found, make.values[-1])


@given(expressions(), st.data())
@settings(max_examples=200, deadline=None)
def test_rows_are_rows_of_the_value(make: _Maker, data: st.DataObject) -> None:
    expression, facts, expected = Expression(tuple(make.steps)), _facts(make), make.values[-1]
    assume(expected.ndim > 0)
    positions = np.array(data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=3)))
    found = rows(expression, facts, M, _reader(make), positions)
    event(f"rows: {found is not None}")
    if found is not None:
        np.testing.assert_array_equal(found, expected[positions])


def _centred(shape: tuple[int, ...], axis: int) -> _Maker:
    make = _Maker(lambda strategy: 0)
    make.stored["w"] = np.random.default_rng(1).normal(0.3, 1, shape).astype(np.float32)
    make.steps, make.values = [Stored("w")], [make.stored["w"].astype(np.float64)]
    make.op("Sub", 0, make.op("ReduceMean", 0, make.literal(axis)))
    return make


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(701, 33), (40, 1000), (3, 257), (9, 31, 20)])
def test_means_of_any_numbers_are_those_of_the_whole(shape: tuple[int, ...], axis: int) -> None:
    make = _centred(shape, axis)
    expression, facts = Expression(tuple(make.steps)), _facts(make)
    found = assembled(expression, facts, M, _reader(make), limit=300)
    np.testing.assert_array_equal(found, make.values[-1])


def test_a_centred_matrix_is_written_in_order_whatever_the_axis_of_its_mean() -> None:
    for axis in (0, 1):
        make = _centred((64, 48), axis)
        expression, facts = Expression(tuple(make.steps)), _facts(make)
        cut = best_cut(expression, facts, 100)
        assert cut is not None
        assert cut.axes[-1] == 0
        assert bool([i for i in cut.whole if isinstance(make.steps[i], Applied)]) == (axis == 0)
        assert positions_of(expression, facts, cut, 100) == 2


def test_no_slab_reads_more_than_its_share() -> None:
    make = _centred((64, 48), 1)
    log: list[tuple[str, int | None, int]] = []
    assembled(Expression(tuple(make.steps)), _facts(make), M, _reader(make, log), limit=480)
    assert [entry for entry in log if entry[0] == "w"] == [("w", 0, 480)] * 6 + [("w", 0, 192)]


def test_rows_of_a_centred_table_read_only_those_rows() -> None:
    make = _centred((64, 48), -1)
    log: list[tuple[str, int | None, int]] = []
    found = rows(Expression(tuple(make.steps)), _facts(make), M, _reader(make, log), np.array([5, 60, 7]))
    np.testing.assert_array_equal(found, make.values[-1][[5, 60, 7]])
    assert log == [("w", 0, 3 * 48)]


def test_rows_that_need_all_rows_are_not_given() -> None:
    make = _centred((64, 48), 0)
    assert rows(Expression(tuple(make.steps)), _facts(make), M, _reader(make), np.array([5])) is None


def test_what_would_be_cut_along_two_axes_is_taken_whole() -> None:
    make = _Maker(lambda strategy: 0)
    w = make.store(8, 8)
    make.op("Add", w, make.op("Transpose", w, perm=[1, 0]))
    expression, facts = Expression(tuple(make.steps)), _facts(make)
    assert cut_along(expression, facts, 0) is None
    np.testing.assert_array_equal(assembled(expression, facts, M, _reader(make), limit=4), make.values[-1])
