"""Running a cone on probes with random numbers in what enters beside its input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tautomer.patterns.recognition import probe
from tautomer.patterns.recognition.evaluation import Program
from tautomer.patterns.recognition.probe import Array
from tautomer.patterns.recognition.special_values import POINTS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OperandRun:
    """What a cone gives on some x, with some numbers in its side inputs.

    Attributes:
        program: the cone.
        free: which of its side inputs have other numbers in each run; the others keep their own one.
        x: blocks of the shape of the source [K, ...].
        leaves: the free ones, in shapes that are broadcast to x.
        y: the results.
        given: the free ones as the cone takes them.
    """

    program: Program
    free: tuple[int, ...]
    x: Array
    leaves: tuple[Array, ...]
    y: Array
    given: tuple[Array, ...]

    @property
    def positive(self) -> bool:
        """Whether all numbers in the side inputs are."""
        return all(bool((leaf > 0.0).all()) for leaf in self.leaves)

    def again(self, x: Array) -> Array:
        """What the cone gives on another x, with the same side inputs."""
        return _results(self.program, self.free, x, self.given)


def operand_runs(program: Program, shape: Shape, free: tuple[int, ...]) -> Iterator[OperandRun]:
    """Runs with side inputs that are positive, positive and small, and of either sign; none if one is odd."""
    for kind in ("positive", "small", "signed") if free else ("positive",):
        given = tuple(_drawn(program.leaf_shapes[i], kind, i) for i in free)
        leaves = tuple(leaf for one in given if (leaf := _aligned(one, shape)) is not None)
        if len(leaves) < len(free):
            return
        x = _rows(shape) if program.reduces else _elements(program, shape, leaves)
        yield OperandRun(program, free, x, leaves, _results(program, free, x, given), given)


def touched(run: OperandRun) -> tuple[int, ...]:
    """Which elements of the first block change with its very first one."""
    x = run.x[:1].copy()
    x.reshape(-1)[0] += 2.5
    with np.errstate(all="ignore"):
        return tuple(np.flatnonzero(run.again(x)[0].reshape(-1) != run.y[0].reshape(-1)).tolist())


def with_special_values(x: Array) -> Array:
    """NaN and the infinities in a few places."""
    x = x.copy()
    flat = x.reshape(-1)
    flat[:: max(1, flat.size // POINTS.size)][: POINTS.size] = POINTS[: flat.size]
    return x


def _drawn(shape: Shape, kind: str, seed: int) -> Array:
    values = np.asarray(probe.tensor(shape, seed))
    if kind == "small":  # beside these an epsilon shows
        return np.asarray(10.0 ** -(6.0 * np.abs(values) - 2.0))
    return np.abs(values) if kind == "positive" else values


def _aligned(leaf: Array, shape: Shape) -> Array | None:
    """A side input as it meets x: by its last axes, or as numbers of channels, which are the second axis.

    Fewer numbers than there are channels are those of groups of neighbours. No operation takes them so.
    """
    column = (-1, *(1,) * (len(shape) - 2))
    repeated = np.repeat(leaf, max(shape[1] // max(leaf.size, 1), 1))
    for as_is in (leaf, leaf.reshape(column), repeated.reshape(column)):
        try:
            if np.broadcast_shapes(as_is.shape, shape) == shape:
                return as_is
        except ValueError:
            continue
    return None


def _results(program: Program, free: tuple[int, ...], x: Array, given: tuple[Array, ...]) -> Array:
    leaves = [
        given[free.index(i)] if i in free else np.full(shape, program.leaf_numbers[i])
        for i, shape in enumerate(program.leaf_shapes)
    ]
    found = np.stack([program(block, leaves) for block in x])
    if found.shape != x.shape:
        raise ValueError("it changes the shape of its input")
    return found


def _elements(program: Program, shape: Shape, leaves: tuple[Array, ...]) -> Array:
    """Elements on every scale, where numbers of the cone are, and where side inputs are."""
    corners = [reading.value for reading in program.readings if np.isfinite(reading.value)]
    pool = np.concatenate([probe.points(), corners, probe.far_points()])
    size = math.prod(shape)
    blocks = [np.resize(np.roll(pool, -k * size), shape) for k in range(-(-pool.size // size))]
    return np.stack([*blocks, *(np.broadcast_to(leaf, shape) for leaf in leaves)])


def _rows(shape: Shape) -> Array:
    """Rows of every kind, in channels."""
    rows, length = shape[0] * shape[1], math.prod(shape[2:])
    blocks = -(-probe.ROWS // rows)
    return probe.rows(blocks * rows, length).reshape(blocks, *shape)
