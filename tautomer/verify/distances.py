"""How far apart two results are, row by row, as powers of two: of e^-10000 there is no float64, but 2^-14427.

The same for float64 arrays and for balls. -inf is "the same", nan is "no number to compare".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tautomer.verify.ball import Balls

Logs = NDArray[np.float64]

_SAME = 2.0**-36  # a thousandth of a rounding in float32
_LEAST = 32  # elements in a row: of fewer, a largest one says little


def log_distance(a: Any, b: Any) -> Logs:
    """log2 |a - b|, element by element, of two values of one domain and one shape."""
    if isinstance(a, Balls):
        found = np.frompyfunc(lambda x, y: _log2(0 if x == y else x - y), 2, 1)(a.array, b.array)
        return np.asarray(found, dtype=np.float64)
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(all="ignore"):
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        logs = np.log2(np.abs(first - second))
    return np.asarray(np.where(same, -np.inf, np.where(np.isfinite(logs), logs, np.nan)))


def log_size(a: Any) -> float:
    """log2 of the largest element that is a number."""
    if isinstance(a, Balls):
        logs = np.asarray(np.frompyfunc(_log2, 1, 1)(a.array), dtype=np.float64)
    else:
        with np.errstate(all="ignore"):
            logs = np.log2(np.abs(np.asarray(a, dtype=np.float64)))
    return float(np.max(logs, initial=-np.inf, where=np.isfinite(logs)))


def worst_by_row(logs: Logs) -> Logs:
    """The largest of each row, without what is no number; short last axes are taken together."""
    axes, width = 0, 1
    while axes < logs.ndim and width < _LEAST:
        axes += 1
        width *= logs.shape[-axes]
    rows = logs.reshape(-1, width) if logs.size else np.full((1, 1), -np.inf)
    return np.asarray(np.max(rows, axis=-1, initial=-np.inf, where=~np.isnan(rows)))


def rows_agree(exact: NDArray[np.float64], other: NDArray[np.float64], same: float = _SAME) -> bool:
    """Whether two results in float64 are one, each row on its own scale."""
    with np.errstate(all="ignore"):
        gap = np.max(np.abs(exact - other), axis=-1, initial=0.0)
        return bool(np.all(gap <= same * np.max(np.abs(other), axis=-1, initial=0.0)))


def _log2(x: Any) -> float:
    if isinstance(x, int):
        return -math.inf
    if not x.is_finite():
        return math.nan
    if x.contains(0):
        return -math.inf
    mantissa, exponent = abs(x).mid().man_exp()
    return math.log2(int(mantissa)) + float(int(exponent))
