"""Confirming y = f(row) on rows: norms and softmaxes, with gains and biases solved for.

For a definition with scale and bias the model is y = g * core(x) + b with g and b unknown per channel: least
squares over more rows than unknowns, a residual at rounding level, and then g and b must be values that
enter the cone. So a gain is found wherever the exporter put it, and a gain that is not there is not made up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.recognition.evaluation import FAILURES, FLOAT64, Program
from tautomer.patterns.recognition.match import Match, Operand, Refusal
from tautomer.patterns.recognition.probe import Array
from tautomer.patterns.recognition.row_samples import (
    Formula,
    RowFit,
    RowSamples,
    first_rows,
    fit_rows,
    sample_rows,
)
from tautomer.patterns.recognition.special_values import special_rows
from tautomer.patterns.rows import apply
from tautomer.patterns.weights import solved


def confirm_rows(program: Program) -> Match | Refusal:
    """Compares a cone with row reductions with every row-wise definition."""
    try:
        samples = sample_rows(program)
    except FAILURES as error:
        return Refusal(f"cannot be evaluated on its own: {error}")
    if isinstance(samples, Refusal):
        return samples
    nearest, closest = Refusal("computes another function of its rows"), math.inf
    # weights are solved for by least squares, which costs more than all else: they come last
    for definition in sorted(definitions(), key=lambda one: bool(one.weights)):
        if (
            not definition.rows
            or definition.composite
            or definition.channels
            or (definition.by_name and not program.calls_by_name(definition.op, definition.domain))
            or (definition.rows == "folded") != samples.structure.folded
        ):
            continue
        for parameters in _candidates(definition, program, samples):
            fit = fit_definition(samples, definition, parameters)
            if fit.gap <= 1.0:
                operands = _operands(definition, fit, samples.leaves, program)
                if isinstance(operands, dict):
                    special = special_rows(program, samples, fit, _formula(definition, parameters))
                    axes = samples.structure.axes
                    return Match(definition, parameters, axes, operands, program.readings, special)
                nearest, closest = Refusal(operands, definition.op), 0.0
                continue
            if fit.gap < closest:
                closest, nearest = fit.gap, Refusal(nearest.reason, definition.op if fit.gap < 1e10 else "")
    return nearest


def fit_definition(samples: RowSamples, definition: Definition, parameters: Mapping[str, float]) -> RowFit:
    """How far the cone is from a definition with some gain and shift."""
    return fit_rows(
        samples,
        _formula(definition, parameters),
        gained="scale" in definition.operands,
        shifted="bias" in definition.operands,
    )


def _formula(definition: Definition, parameters: Mapping[str, float]) -> Formula:
    return lambda x: apply(definition, FLOAT64, x, axes=(1,), parameters=parameters)


def _candidates(
    definition: Definition, program: Program, samples: RowSamples
) -> Iterator[Mapping[str, float]]:
    """The scalars of a row-wise definition are positive numbers of the cone, or 0 when they are absent."""
    if not definition.parameters:
        yield {}
        return
    names = [one for one in definition.parameters if one not in definition.weights]
    length = samples.x.shape[1]
    numbers = [reading.value for reading in program.readings if 0.0 < reading.value < 10.0 * length]
    pool = dict.fromkeys(value for value in numbers if value < 10.0)
    pool |= dict.fromkeys((0.0, *(definition.parameters[name] for name in names)))
    pool |= dict.fromkeys(value / length for value in numbers)
    # a graph of fixed sizes may bring thousands of rows; on them the result is compared after
    few = first_rows(*samples.x.shape)
    x, y = samples.x[:few], samples.y[:few]
    for values in product(pool, repeat=len(names)):
        scalars = dict(zip(names, values, strict=True))
        if not definition.weights:
            yield scalars
            continue

        def formula(weights: Mapping[str, float], scalars: Mapping[str, float] = scalars) -> Array:
            return _formula(definition, {**scalars, **weights})(x)

        weights = solved(definition, formula, y, program.readings)
        if weights is not None:
            yield {**scalars, **weights}


def _operands(
    definition: Definition, fit: RowFit, leaves: tuple[Array | None, ...], program: Program
) -> dict[str, Operand] | str:
    """Names the values that the gain and the shift are, or says which of them is none."""
    found: dict[str, Operand] = {}
    length = fit.gain.shape[0]
    if not _close(fit.gain, np.ones(length)):
        scale = _scale(fit.gain, leaves, length) or _number(fit.gain, program)
        if scale is None:
            return f"computes {definition.op} times a gain that is no single value that enters it"
        found["scale"] = scale
    if not _close(fit.shift, np.zeros(length)):
        taken = found["scale"].leaf if "scale" in found else -1
        bias = _bias(fit.shift, leaves, taken) or _number(fit.shift, program)
        if bias is None:
            return f"computes {definition.op} plus a shift that is no single value that enters it"
        found["bias"] = bias
    if sum(not operand.is_number for operand in found.values()) != len(leaves):
        return f"computes {definition.op}, and a tensor enters that has no place in it"
    return found


def _scale(gain: Array, leaves: tuple[Array | None, ...], length: int) -> Operand | None:
    # a sum instead of a mean leaves the root of the row's length behind in the gain
    for index, leaf in enumerate(leaves):
        for factor in (1.0, math.sqrt(length), 1.0 / math.sqrt(length)):
            if leaf is not None and _close(gain, leaf * factor):
                return Operand(index, factor)
    return None


def _bias(shift: Array, leaves: tuple[Array | None, ...], taken: int) -> Operand | None:
    for index, leaf in enumerate(leaves):
        if leaf is not None and index != taken and _close(shift, leaf):
            return Operand(index)
    return None


def _number(values: Array, program: Program) -> Operand | None:
    """A gain or shift that is the same for the whole row, when it is one of the cone's own constants."""
    for reading in program.readings:
        if _close(values, np.full(values.shape, reading.value)):
            return Operand(-1, reading.value)
    return None


def _close(a: Array, b: Array) -> bool:
    # the solution of a least squares problem with condition below 1e3
    return bool(np.all(np.abs(a - b) <= 1e-7 * (1.0 + np.abs(b))))
