"""NaN, infinities and fully masked rows: does the operation give what the cone gives?

Where the cone is finite the operation must be finite and equal, or replacing one by the other would put NaN
into a model that had none: attention exported with a guard against fully masked rows is the usual case.
Where the cone itself gives NaN or infinity, any result is as good.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tautomer.patterns.recognition.evaluation import FAILURES, Program
from tautomer.patterns.recognition.probe import Array
from tautomer.patterns.recognition.row_samples import RowFit, RowSamples, run_rows

POINTS = np.array([np.nan, np.inf, -np.inf])
_POINT_NAMES = ("NaN", "infinity", "-infinity")
_ROW_NAMES = ("a NaN", "an infinity", "a masked element", "only masked elements")
_RELATIVE = 1e-6  # anything that is finite on both sides was compared before, and closer


def special_rows(
    program: Program, samples: RowSamples, fit: RowFit, formula: Callable[[Array], Array]
) -> str:
    """The first special row on which the cone and gain * formula + shift differ, in words."""
    x = np.array(samples.x[: len(samples.x)])
    for index, _ in enumerate(_ROW_NAMES):
        x[index] = samples.x[0]
    x[0, 0], x[1, 0], x[2, 0], x[3, :] = np.nan, np.inf, -np.inf, -np.inf
    try:
        found = run_rows(program, x, samples.structure)
    except FAILURES:
        return ""
    with np.errstate(all="ignore"):
        expected = fit.gain * formula(x) + fit.shift
    for index, name in enumerate(_ROW_NAMES):
        if not _agree(found[index], expected[index]):
            return f"on a row with {name} it gives {_shown(found[index])} where the operation does not"
    return ""


def special_points(found: Array, expected: Array) -> str:
    """The same for a pointwise operation on NaN and the infinities."""
    for name, a, b in zip(_POINT_NAMES, found, expected, strict=True):
        if not _agree(np.atleast_1d(a), np.atleast_1d(b)):
            return f"for {name} it gives {a:g} where the operation gives {b:g}"
    return ""


def special_elements(found: Array, expected: Array) -> str:
    """The same where some elements of a tensor are NaN or infinite."""
    with np.errstate(all="ignore"):
        off = ~(np.abs(found - expected) <= _RELATIVE * (1.0 + np.abs(expected))) & np.isfinite(found)
    return f"beside NaN or infinities it gives {_shown(found[off])} where the operation does not" * bool(
        off.any()
    )


def _agree(found: Array, expected: Array) -> bool:
    with np.errstate(all="ignore"):
        close = np.abs(found - expected) <= _RELATIVE * (1.0 + np.abs(expected))
    return bool(np.all(close | ~np.isfinite(found)))


def _shown(values: Array) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite[0]:g}" if finite.size else "NaN"
