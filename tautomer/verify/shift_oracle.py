"""Does a model's output move when per-position constants are added to some of its values?

A layer normalisation takes the mean of its row away, so a residual stream may carry any mean, unless
something else reads it. Whether something does is asked of the model itself: random constants are added to
all the values at once, in float64, and no output may move. If one does, bisection finds a value that it
minds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.control_flow import is_constant
from tautomer.verify.interpreter import run

__all__ = ["Moved", "Shift", "Unsupported", "moved_by_shifts", "moved_in_runs"]

# Adding 100 times a row's own size costs two digits of sixteen, a residual stream that collects dozens of
# such shifts three, a variance computed as E[x^2] - E[x]^2 twice as many: rounding stays below 1e-9 or so.
# What minds a shift moves by about its own size. Anywhere between these tells them apart.
_TOLERANCE = 1e-6
_SCALES = (1.0, 100.0)  # of a shift, in sizes of its row: what bends near 0, and what only bends far out
_SMALLEST = 0.01  # a row smaller than this part of the whole value is shifted as if it were as large

Array = np.ndarray[Any, Any]
Alter = Callable[[ir.Value, Any], Any]


@dataclass(frozen=True)
class Shift:
    """Along what a shift is constant, free of the sizes of other axes.

    Attributes:
        axes: for each axis along which it is constant, intervals [low, high) of the index i of that axis,
            innermost first: the shift does not depend on the digit (i // low) % (high // low). (1, n) is a
            whole axis of n; (1, 16) with n = 64 is each of four heads for itself. Along axes that are not
            here, it varies from index to index.
    """

    axes: Mapping[int, tuple[tuple[int, int], ...]]

    def digits(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of a shape cut into their digits: the sizes, and the positions where it is constant.

        Raises:
            ValueError: there is no such axis, or an interval does not divide it.
        """
        sizes: list[int] = []
        constant: list[int] = []
        if any(not 0 <= axis < len(shape) for axis in self.axes):
            raise ValueError(f"a shift along axes {sorted(self.axes)} of the shape {list(shape)}")
        for axis, size in enumerate(shape):
            cuts = [cut for interval in self.axes.get(axis, ()) for cut in interval]
            if any(low < 1 or high % low for low, high in zip([1, *cuts], [*cuts, size], strict=True)):
                raise ValueError(f"a shift along {self.axes[axis]} of an axis of {size}")
            edges = [size, *cuts[::-1], 1]  # odd steps down from here are inside an interval
            constant += [len(sizes) + step for step in range(1, len(edges) - 1, 2)]
            sizes += [high // low for high, low in pairwise(edges)]
        return tuple(sizes), tuple(constant)


@dataclass(frozen=True)
class Moved:
    """A shift that shows.

    Attributes:
        value: the value that was shifted, the last in the order of evaluation that an output minds.
        output: the output that moves most.
        amount: by how much, in its own size; infinite where a special value or the shape changes.
    """

    value: ir.Value
    output: str
    amount: float


def moved_by_shifts(
    model: ir.Model, shifts: Mapping[ir.Value, Shift], inputs: Mapping[str, Any], *, seed: int = 0
) -> Moved | None:
    """Whether an output moves by more than rounding when constants are added to values of a model.

    Runs the model twice in float64, and log2(len(shifts)) times more when an output moves.

    Args:
        model: the model, whose own values the shifts are for.
        shifts: float values, each an input that is given or computed by a node of the main graph; those that
            no output needs cannot move any.
        inputs: arrays by name.
        seed: of the random numbers.

    Returns:
        None when no output moves.

    Raises:
        Unsupported: the model cannot be evaluated; it says which node.
        InputError: the inputs do not fit.
        ValueError: a shift is for something that cannot be shifted, or does not fit its shape.
    """
    for value in shifts:
        _check(model, value, inputs)
    return moved_in_runs(lambda alter: run(model, Float64(), inputs, alter=alter), shifts, seed=seed)


def moved_in_runs(
    run_with: Callable[[Alter], Mapping[str, Any]], shifts: Mapping[ir.Value, Shift], *, seed: int = 0
) -> Moved | None:
    """The same of anything that runs in float64.

    Args:
        run_with: runs it and gives its outputs by name; asks its argument what each value is to be.
        shifts: values that it asks for.
        seed: of the random numbers.
    """
    made: dict[ir.Value, tuple[tuple[int, ...], Array]] = {}
    streams = {value: index for index, value in enumerate(shifts)}

    def make(value: ir.Value, x: Any) -> Any:
        if value in shifts:
            made[value] = _random(shifts[value], value, x, np.random.default_rng([seed, streams[value]]))
        return x

    still = run_with(make)

    def movement(shifted: Iterable[ir.Value]) -> tuple[str, float]:
        chosen = dict.fromkeys(shifted)

        def add(value: ir.Value, x: Any) -> Any:
            if value not in chosen:
                return x
            digits, added = made[value]
            with np.errstate(all="ignore"):
                return np.asarray((np.reshape(x, digits) + added).reshape(np.shape(x)))

        return _largest(still, run_with(add))

    order = list(made)  # that of evaluation
    name, amount = movement(order)
    if amount <= _TOLERANCE:
        return None
    return _guilty(order, (name, amount), movement)


def _guilty(
    order: list[ir.Value],
    all_of_them: tuple[str, float],
    movement: Callable[[list[ir.Value]], tuple[str, float]],
) -> Moved:
    """The last value that moves an output together with those after it, which alone move none."""
    first, beyond, found = (
        0,
        len(order),
        all_of_them,
    )  # from `first` on they move, from `beyond` on they do not
    while beyond - first > 1:
        middle = (first + beyond) // 2
        tried = movement(order[middle:])
        if tried[1] > _TOLERANCE:
            first, found = middle, tried
        else:
            beyond = middle
    return Moved(order[first], *found)


def _check(model: ir.Model, value: ir.Value, inputs: Mapping[str, Any]) -> None:
    """Refuses what the interpreter never shows: the shift would be left out without a word."""
    producer = value.producer()
    given = producer is None and value in model.graph.inputs and value.name in inputs
    computed = producer is not None and producer.graph is model.graph and not is_constant(producer)
    if not given and not computed:
        raise ValueError(f"'{value.name}' is not computed in the main graph, nor given")


def _random(shift: Shift, value: ir.Value, x: Any, rng: np.random.Generator) -> tuple[tuple[int, ...], Array]:
    """A shape that cuts the axes into digits, and what to add in it: 1 where the shift is constant."""
    if not Float64().is_value(x):
        raise ValueError(f"'{value.name}' is not a tensor of floats")
    array = np.asarray(x)
    digits, constant = shift.digits(array.shape)
    with np.errstate(all="ignore"):  # what overflows makes the outputs nan, and that is a movement
        squares = np.where(np.isfinite(array), array, 0.0).reshape(digits) ** 2
        if not squares.size:
            return digits, squares
        rows = np.sqrt(squares.mean(constant, keepdims=True))
        whole = float(np.sqrt(squares.mean())) or 1.0
    # each scale as often as the other, so that a value of few rows has rows of both
    scales = rng.permutation(np.resize(rng.permutation(_SCALES), rows.size)).reshape(rows.shape)
    signed = rng.uniform(0.5, 1.5, rows.shape) * rng.choice((-1.0, 1.0), rows.shape)
    return digits, signed * scales * np.maximum(rows, _SMALLEST * whole)


def _largest(still: Mapping[str, Any], shifted: Mapping[str, Any]) -> tuple[str, float]:
    """The output that moves most, and how far."""
    amounts = {name: _movement(np.asarray(x), np.asarray(shifted[name])) for name, x in still.items()}
    name = max(amounts, key=lambda one: amounts[one], default="")
    return name, amounts.get(name, 0.0)


def _movement(still: Array, shifted: Array) -> float:
    """How far an output moves, each element in the larger of its own size and that of the output's elements.

    That is the median of those that are not 0: a mask of huge numbers would make the largest huge, and every
    movement small. Infinities, nan and integers have no size, and must stay what they are.
    """
    if still.shape != shifted.shape:
        return np.inf
    if still.dtype != np.float64:
        return 0.0 if np.array_equal(still, shifted) else np.inf
    finite = np.isfinite(still)
    if not np.array_equal(finite, np.isfinite(shifted)):
        return np.inf
    if not np.array_equal(still[~finite], shifted[~finite], equal_nan=True):
        return np.inf
    magnitudes = np.abs(still[finite])
    distance = np.abs(shifted[finite] - still[finite])
    if not np.any(distance):
        return 0.0
    present = magnitudes[magnitudes > 0.0]
    if not present.size:
        return np.inf
    return float(np.max(distance / np.maximum(magnitudes, np.median(present))))
