"""Why not? The near miss that a refused cone computes, found by evaluation like an operation."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from tautomer.patterns.near_misses import POINT_MISSES, ROW_MISSES, NearMiss
from tautomer.patterns.operation import definitions
from tautomer.patterns.recognition.confirm_pointwise import pointwise_values
from tautomer.patterns.recognition.confirm_rows import fit_definition
from tautomer.patterns.recognition.evaluation import FAILURES, FLOAT64, Program
from tautomer.patterns.recognition.match import Refusal
from tautomer.patterns.recognition.probe import Array, points, tensor
from tautomer.patterns.recognition.row_samples import RowSamples, fit_rows, sample_rows
from tautomer.patterns.rows import Rows

_RELATIVE = 1e-8  # looser than recognition: this names a reason, it decides nothing


def diagnose(program: Program, refusal: Refusal) -> Refusal:
    """The refusal with a truer reason, when a near miss fits."""
    try:
        return (_diagnose_rows if program.reduces else _diagnose_points)(program) or refusal
    except FAILURES:
        return refusal


def _numbers(program: Program) -> list[tuple[float, float]]:
    """Constants of the cone as (meant, stored)."""
    return [(0.0, 0.0), *((reading.value, reading.stored) for reading in program.readings)]


def _diagnose_rows(program: Program) -> Refusal | None:
    samples = sample_rows(program)
    if isinstance(samples, Refusal) or samples.structure.folded:
        return None
    varying = _varying_parameter(program, samples)
    if varying is not None:
        return varying
    m = Rows(FLOAT64, (1,))
    for miss in ROW_MISSES:
        for number, _ in _numbers(program):
            gained = bool(program.cone.leaves)
            fit = fit_rows(samples, partial(_applied, miss, m, number), gained=gained, shifted=gained)
            if fit.gap <= 1.0:
                return Refusal(miss.reason, miss.op)
    return None


def _varying_parameter(program: Program, samples: RowSamples) -> Refusal | None:
    """An operation whose parameter is computed or given at run time: it has the values of this probe only."""
    for index, shape in enumerate(program.leaf_shapes):
        if math.prod(shape) != 1:
            continue
        number = float(tensor(shape, index).reshape(()))
        for definition in definitions():
            if not definition.rows or definition.composite or definition.by_name or definition.channels:
                continue
            for name in definition.parameters:
                if fit_definition(samples, definition, {name: number}).gap <= 1.0:
                    leaf = program.cone.leaves[index].name
                    return Refusal(f"takes its {name} from '{leaf}', which is no constant", definition.op)
    return None


def _applied(miss: NearMiss, m: Rows, number: float, x: Array) -> Array:
    return np.asarray(miss.function(m, x, number))


def _diagnose_points(program: Program) -> Refusal | None:
    found = pointwise_values(program, points())
    if found is None or program.cone.leaves:
        return None
    m = Rows(FLOAT64)
    for miss in POINT_MISSES:
        for number, stored in _numbers(program)[1:] or [(0.0, 0.0)]:
            with np.errstate(all="ignore"):
                expected = miss.function(m, points(), number)
            if np.allclose(found, expected, rtol=_RELATIVE, atol=1e-12):
                return Refusal(miss.reason.format(number=stored), miss.op)
    return None
