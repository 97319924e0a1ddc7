"""The value of an expression slab by slab: in the memory of a slab, not of its tensors.

What a slab needs as a whole (a mean along the axis that is cut) is computed first, in slabs of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tautomer.graph.cuts import NARROWEST, SLAB, Cut, Facts, best_cut, cut_along, positions_of
from tautomer.graph.expression import Applied, Expression, Literal, Stored
from tautomer.graph.fact import Shape
from tautomer.graph.mapped import Index, part
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import Mathematics
from tautomer.graph.semantics.movement import moved
from tautomer.graph.semantics.table import evaluate

Read = Callable[[str, int | None, Index], Any]
"""Gives a stored constant, lifted to the domain: its positions along an axis, or for None all of it."""

ALL = slice(None)
_SHAPED = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def slabs(
    expression: Expression, facts: Facts, m: Mathematics, read: Read, cut: Cut | None, limit: int = SLAB
) -> Iterator[tuple[Index, Any]]:
    """The value, slab by slab: where along the axis of the cut, and the value there. Without one, at once."""
    if cut is None:
        yield ALL, expression.value(m, lambda name: read(name, None, ALL))
        return
    axis = cut.axes[-1]
    shape = facts[-1].shape
    assert axis is not None and shape is not None
    known = {i: _taken_whole(expression, facts, m, read, i, limit) for i in cut.whole}
    step = positions_of(expression, facts, cut, limit)
    begin = 0
    while begin < shape[axis]:
        end = min(begin + step, shape[axis])
        end = shape[axis] if shape[axis] - end < NARROWEST else end
        index = slice(begin, end)
        yield index, _value_at(expression, facts, m, read, cut, known, index, end - begin)
        begin = end


def assembled(
    expression: Expression,
    facts: Facts,
    m: Mathematics,
    read: Read,
    finish: Callable[[Any], Any] = np.asarray,
    limit: int = SLAB,
) -> Any:
    """The value in a domain of arrays, put together from slabs; `finish` is done to each of them."""
    cut = best_cut(expression, facts, limit)
    result: Any = None
    for index, slab in slabs(expression, facts, m, read, cut, limit):
        value = finish(slab)
        if cut is None:
            return value
        if result is None:
            result = np.empty(facts[-1].shape or (), value.dtype)
        result[(ALL,) * (cut.axes[-1] or 0) + (index,)] = value
    return result


def rows(
    expression: Expression, facts: Facts, m: Mathematics, read: Read, positions: np.ndarray[Any, Any]
) -> Any:
    """The value at some positions of axis 0, from those positions of what is stored.

    None where that is not enough: something that is read there is needed as a whole, too.
    """
    shape = facts[-1].shape
    if any(fact.shape is None for fact in facts) or not shape or shape[0] < NARROWEST:
        return None
    cut = cut_along(expression, facts, 0)
    if cut is None:
        return None
    known = {i: expression.until(i) for i in cut.whole}
    there = {_source(expression, i) for i, axis in enumerate(cut.axes) if axis is not None} - {None}
    if any(there.intersection(one.sources) for one in known.values()):
        return None
    # domains read a lone float as a number of a formula, and an element of a table is none
    index = np.repeat(positions, 2) if len(positions) == 1 else positions
    whole = {i: one.value(m, lambda name: read(name, None, ALL)) for i, one in known.items()}
    value = _value_at(expression, facts, m, read, cut, whole, index, len(index))
    return moved(m, lambda a: a[:1], value) if len(positions) == 1 else value


def _taken_whole(
    expression: Expression, facts: Facts, m: Mathematics, read: Read, position: int, limit: int
) -> Any:
    """A part that is not local to the axis, in slabs along another one."""
    own = [facts[i] for i in expression.behind(position)]
    return assembled(expression.until(position), own, m, read, limit=limit)


def _source(expression: Expression, position: int) -> str | None:
    step = expression.steps[position]
    return step.name if isinstance(step, Stored) else None


def _value_at(
    expression: Expression,
    facts: Facts,
    m: Mathematics,
    read: Read,
    cut: Cut,
    known: dict[int, Any],
    index: Index,
    count: int,
) -> Any:
    """One slab: only the steps that are cut, each dropped after its last reader."""
    values: dict[int, Any] = {}
    last = {
        operand: position
        for position, own in enumerate(cut.operands)
        for operand in _cut_operands(expression, position, own)
    }
    for position, axis in enumerate(cut.axes):
        step, fact = expression.steps[position], facts[position]
        if axis is None:
            continue
        if isinstance(step, Stored):
            values[position] = read(step.name, axis, index)
        elif isinstance(step, Literal):
            values[position] = lift(m, part(step.array, axis, index))
        else:
            own = cut.operands[position]
            inputs = [
                None if i is None else known[i] if where is None else values[i]
                for i, where in zip(step.operands, own, strict=True)
            ]
            assert fact.shape is not None
            shape = (*fact.shape[:axis], count, *fact.shape[axis + 1 :])
            values[position] = _applied(m, step, inputs, shape)
            for operand in _cut_operands(expression, position, own):
                if last[operand] == position:
                    values.pop(operand, None)
    return values[len(cut.axes) - 1]


def _cut_operands(expression: Expression, position: int, own: Sequence[int | None]) -> list[int]:
    step = expression.steps[position]
    operands = step.operands if isinstance(step, Applied) and own else ()
    return [i for i, where in zip(operands, own, strict=True) if i is not None and where is not None]


def _applied(m: Mathematics, step: Applied, inputs: list[Any], shape: Shape) -> Any:
    """One operator on parts; what names the shape of its result names that of the whole, and is not asked."""
    if step.call.op_type in _SHAPED:
        return moved(m, lambda a: a.reshape(shape), inputs[0])
    if step.call.op_type == "Expand":
        return moved(m, lambda a: np.broadcast_to(a, shape), inputs[0])
    return evaluate(m, step.call, inputs)[0]
