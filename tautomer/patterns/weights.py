"""Weights of a definition: numbers that its result is affine in, and that are therefore solved for.

    f(x; w) = f(x; 0) + sum_i w_i (f(x; e_i) - f(x; 0))

Least squares over the probe gives w; each must then be one of the constants that the cone holds, so that what
is written down is the model's own number. A weight whose default is not zero must be there: without its cubic
term a polynomial is another operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tautomer.patterns.operation import Definition
from tautomer.patterns.recognition.probe import Array
from tautomer.patterns.recognition.readings import Reading

Formula = Callable[[Mapping[str, float]], Any]
# Of unknowns that the probe tells apart to 1e-3 of its largest value, float64 leaves some 1e-12; constants of
# float32 that are not the same are 1e-7 apart.
_NEAR = 1e-8


def solved(
    definition: Definition, formula: Formula, found: Array, readings: Sequence[Reading]
) -> dict[str, float] | None:
    """The weights with which a definition gives what was found; None where no constants of the cone do.

    Args:
        definition: one with weights.
        formula: its result on the probe, given all its weights.
        found: what the cone gives there.
        readings: the constants of the cone.
    """
    nothing = dict.fromkeys(definition.weights, 0.0)
    with np.errstate(all="ignore"):
        base = np.asarray(formula(nothing), np.float64).reshape(-1)
        parts = [np.asarray(formula({**nothing, name: 1.0})).reshape(-1) - base for name in nothing]
    columns, target = np.stack(parts, axis=1), found.reshape(-1) - base
    # every element on its own scale: a cube of 100 must not drown what tells the others apart
    scale = 1.0 / (1e-3 + np.abs(columns).max(axis=1))
    if not (np.isfinite(columns).all() and np.isfinite(target).all()):
        return None
    weights, *_ = np.linalg.lstsq(columns * scale[:, None], target * scale, rcond=None)
    known = [0.0, *(sign * reading.value for reading in readings for sign in (1.0, -1.0))]
    chosen: dict[str, float] = {}
    for name, weight in zip(nothing, weights, strict=True):
        nearest = min(known, key=lambda value: abs(value - weight))
        if abs(nearest - weight) > _NEAR * (1.0 + abs(weight)):
            return None
        if nearest == 0.0 and definition.parameters[name] != 0.0:
            return None
        chosen[name] = nearest
    return chosen
