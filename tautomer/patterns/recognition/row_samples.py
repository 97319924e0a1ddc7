"""Running a cone on probe rows, and measuring how far a formula is from what it gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tautomer.patterns.recognition import probe
from tautomer.patterns.recognition.evaluation import Program
from tautomer.patterns.recognition.match import Refusal
from tautomer.patterns.recognition.probe import Array
from tautomer.patterns.recognition.row_axes import RowStructure, find_rows

# Rounding in float64 over a row; a slip of one part in the row's length is larger for rows up to 2^26.
RELATIVE = 2e-9
_OF_ROW = 1e-11  # cancellation in x - mean(x), in units of the row's largest result
_BELOW = 1e-7  # the probe has rows of that size
_FEW = 7  # two unknowns per channel leave five equations to contradict a formula
_MANY_ELEMENTS = 1 << 16
_MAX_ELEMENTS = 1 << 22  # 4M doubles: 10 ms per operator; beyond it a probe costs more than it is worth

Formula = Callable[[Array], Array]


@dataclass(frozen=True)
class RowSamples:
    """Rows and what a cone makes of them.

    Attributes:
        structure: the axes of a row.
        x: rows [R, n].
        y: results [R, n], or [R, 1] when rows are folded.
        leaves: each side input as the row vector that it is; None when it differs between rows.
    """

    structure: RowStructure
    x: Array
    y: Array
    leaves: tuple[Array | None, ...]


@dataclass(frozen=True)
class RowFit:
    """How a formula compares: y = gain * formula(x) + shift, per channel.

    Attributes:
        gap: the largest deviation in units of the tolerance; at most 1 is agreement.
        gain: per channel, or ones.
        shift: per channel, or zeros.
    """

    gap: float
    gain: Array
    shift: Array


def sample_rows(program: Program) -> RowSamples | Refusal:
    """Finds the row structure of a cone and runs it on probe rows; may raise what running may raise."""
    shape = program.probe_shape()
    if math.prod(shape) == 0:
        return Refusal("has a dimension of size 0")
    if program.too_large or math.prod(shape) > _MAX_ELEMENTS:
        return Refusal(f"is too large to be evaluated: {list(shape)}")
    structure = find_rows(program, shape)
    if isinstance(structure, Refusal):
        return structure
    order, length, count = _layout(shape, structure)
    x = probe.rows(max(1, -(-probe.ROWS // count)) * count, length)
    least = min((r.value for r in program.readings if 0.0 < r.value < _BELOW), default=0.0)
    if least:  # a bound below of a norm is only met by rows as small as it is
        x = np.concatenate([x, x[:count] * least])
    leaves = _leaves(program)
    row_leaves = tuple(_as_row(leaf, shape, order, length, count) for leaf in leaves)
    return RowSamples(structure, x, run_rows(program, x, structure), row_leaves)


def run_rows(program: Program, x: Array, structure: RowStructure) -> Array:
    """Runs a cone on rows [R, n], where R is a multiple of the rows that one probe holds."""
    shape = program.probe_shape()
    order, length, count = _layout(shape, structure)
    leaves, results = _leaves(program), []
    for block in np.split(x, len(x) // count):
        arranged = block.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
        y = program(np.ascontiguousarray(arranged), leaves)
        results.append(y.reshape(count, 1) if structure.folded else y.transpose(order).reshape(count, length))
    return np.concatenate(results)


def _layout(shape: tuple[int, ...], structure: RowStructure) -> tuple[tuple[int, ...], int, int]:
    """The axes with those of the row last, the length of a row, and how many rows there are."""
    axes = structure.axes
    length = math.prod(shape[axis] for axis in axes)
    return (*(a for a in range(len(shape)) if a not in axes), *axes), length, math.prod(shape) // length


def _leaves(program: Program) -> list[Array]:
    return [probe.tensor(leaf, index) for index, leaf in enumerate(program.leaf_shapes)]


def _as_row(
    leaf: Array, shape: tuple[int, ...], order: tuple[int, ...], length: int, count: int
) -> Array | None:
    """A side input as the row vector that it multiplies; None when it is not the same for every row."""
    try:
        full = np.broadcast_to(leaf, shape).transpose(order).reshape(count, length)
    except ValueError:
        full = None
    if full is not None and np.array_equal(full, np.broadcast_to(full[0], full.shape)):
        return np.asarray(full[0])
    # one that is reshaped on its way in can only be told by its size
    return leaf.reshape(-1) if leaf.size == length else None


def fit_rows(samples: RowSamples, formula: Formula, *, gained: bool, shifted: bool) -> RowFit:
    """Fits gain and shift per channel where they are free, and measures what remains."""
    few = _first(samples)
    if few is not samples:  # most formulas do not fit, and a few rows show it
        fit = fit_rows(few, formula, gained=gained, shifted=shifted)
        if fit.gap > 1.0:
            return fit
    with np.errstate(all="ignore"):
        core = np.asarray(formula(samples.x))
        noise = conditioning(samples.x, core, formula)
    width = samples.y.shape[1]
    ones, zeros = np.ones(width), np.zeros(width)
    if core.shape != samples.y.shape:
        return RowFit(math.inf, ones, zeros)
    if not gained:
        return RowFit(gap(samples.y, core, noise), ones, zeros)
    finite = np.all(np.isfinite(core) & np.isfinite(samples.y), axis=1)
    if finite.sum() < min(probe.ROWS, len(samples.x)) // 2:
        return RowFit(math.inf, ones, zeros)
    c, y = core[finite], samples.y[finite]
    gain, shift = _least_squares(c, y, shifted)
    return RowFit(gap(y, gain * c + shift, np.abs(gain) * noise[finite]), gain, shift)


def first_rows(rows: int, length: int) -> int:
    """How many of the probe's rows show that a formula does not fit: of all kinds, or a few of long ones."""
    few = probe.ROWS if rows * length <= _MANY_ELEMENTS else _FEW
    return few if rows > 2 * few else rows


def _first(samples: RowSamples) -> RowSamples:
    few = first_rows(*samples.x.shape)
    return samples if few == len(samples.x) else replace(samples, x=samples.x[:few], y=samples.y[:few])


def _least_squares(c: Array, y: Array, shifted: bool) -> tuple[Array, Array]:
    if not shifted:
        power = (c * c).sum(0)
        return (c * y).sum(0) / np.where(power == 0.0, 1.0, power), np.zeros(c.shape[1])
    c_mean, y_mean = c.mean(0), y.mean(0)
    spread = ((c - c_mean) ** 2).sum(0)
    gain = ((c - c_mean) * (y - y_mean)).sum(0) / np.where(spread == 0.0, 1.0, spread)
    return gain, y_mean - gain * c_mean


def conditioning(x: Array, core: Array, formula: Formula) -> Array:
    """How far the result moves when the input moves by a few ulp: no spelling can be closer than that."""
    signs = np.where(np.random.default_rng(5).random(x.shape) < 0.5, -1.0, 1.0)
    delta = np.abs(np.asarray(formula(x * (1.0 + 2.0**-50 * signs))) - core)
    return np.asarray(64.0 * np.max(np.where(np.isfinite(delta), delta, 0.0), axis=1, keepdims=True))


def gap(found: Array, expected: Array, noise: Any) -> float:
    with np.errstate(all="ignore"):
        size = np.abs(expected)
        top = np.max(np.where(np.isfinite(size), size, 0.0), axis=1, keepdims=True)
        ratio = np.abs(found - expected) / (RELATIVE * size + _OF_ROW * top + noise + 1e-300)
    ratio = np.nan_to_num(np.where(np.isfinite(expected), ratio, 0.0), nan=math.inf)
    # where the formula is finite and the cone is not, the spelling overflowed; it may, but on few rows
    overflowed = ~np.isfinite(found) & np.isfinite(expected)
    return float(np.max(np.where(overflowed, 0.0 if overflowed.mean() < 0.2 else math.inf, ratio)))
