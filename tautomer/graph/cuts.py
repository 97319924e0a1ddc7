"""How an expression of tensors can be cut into slabs: along which axis of each of its steps.

    W - mean(W, -1)        is cut along axis 0: rows 0..k of it need rows 0..k of W, and nothing else

Where a small part of an expression is not local to the axis (a mean along it), that part is taken whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tautomer.graph.expression import Applied, Expression, Stored
from tautomer.graph.fact import Fact, elements
from tautomer.graph.shape_rules import Unknown
from tautomer.graph.step_axes import NotLocal, operand_axes

Facts = Sequence[Fact]
SLAB = 1 << 20  # elements of the largest step of a slab: 8 MB in float64, of which a few are held at a time
NARROWEST = 2  # a slab of one row has one axis less to numpy, which would add its numbers in another order
_WIDER = 4  # a slab that takes a little of each row touches the pages of all rows: fewer of them are faster


@dataclass(frozen=True)
class Cut:
    """How an expression is cut along an axis of its value.

    Attributes:
        axes: for each step the axis along which it is cut; None for one that no slab computes.
        operands: for each step that is cut the same about its operands; None for one that is taken whole.
        whole: the steps that are taken whole by one that is cut.
    """

    axes: tuple[int | None, ...]
    operands: tuple[tuple[int | None, ...], ...]
    whole: tuple[int, ...]


def cut_along(expression: Expression, facts: Facts, axis: int) -> Cut | None:
    """The cut along an axis of the value that is longer than 1; None where there is none."""
    count = len(expression.steps)
    axes: list[int | None] = [None] * count
    operands: list[tuple[int | None, ...]] = [()] * count
    whole: set[int] = set()
    axes[-1] = axis
    for position in reversed(range(count)):
        step, own = expression.steps[position], axes[position]
        if not isinstance(step, Applied) or own is None:
            continue
        inputs = [None if i is None else facts[i] for i in step.operands]
        shape = facts[position].shape
        try:
            operands[position] = () if shape is None else operand_axes(step.call, inputs, shape, own)
        except (NotLocal, Unknown, ValueError, IndexError, TypeError):
            return None
        if len(operands[position]) != len(step.operands):
            return None
        for operand, wanted in zip(step.operands, operands[position], strict=True):
            if operand is None:
                continue
            if wanted is None:
                whole.add(operand)
            elif axes[operand] not in (None, wanted):
                return None  # it would be cut along two axes: W + W^T
            else:
                axes[operand] = wanted
    return Cut(tuple(axes), tuple(operands), tuple(sorted(whole)))


def best_cut(expression: Expression, facts: Facts, limit: int = SLAB) -> Cut | None:
    """The cut that takes little whole: the first axis that does, because its slabs lie together in a file.

    None for what is small, and where no axis helps.

    Args:
        expression: what is to be cut.
        facts: of its steps.
        limit: elements that are little.
    """
    largest = max(map(size_of, facts))
    shape = facts[-1].shape
    if shape is None or any(fact.shape is None for fact in facts) or largest <= limit:
        return None
    best: tuple[int, Cut | None] = (largest, None)
    for axis, size in enumerate(shape):
        cut = cut_along(expression, facts, axis) if size > 1 else None
        if cut is not None and (taken := sum(size_of(facts[i]) for i in cut.whole)) < best[0]:
            best = taken, cut
            if taken <= limit:
                break
    return best[1]


def positions_of(expression: Expression, facts: Facts, cut: Cut, limit: int = SLAB) -> int:
    """How many positions of the axis make a slab."""
    cut_steps = [(i, axis) for i, axis in enumerate(cut.axes) if axis is not None]
    sizes = [(size_of(facts[i]), (facts[i].shape or ())[axis]) for i, axis in cut_steps]
    scattered = any(
        isinstance(expression.steps[i], Stored) and elements((facts[i].shape or ())[:axis]) > 1
        for i, axis in cut_steps
    )
    wanted = limit * _WIDER if scattered else limit
    return max(NARROWEST, wanted // max(1, *(size // count for size, count in sizes)))


def size_of(fact: Fact) -> int:
    """How many elements a step has."""
    return elements(fact.shape or ())
