"""Probes: fixed inputs on several scales, chosen so that near misses show.

Rows include variances near every usual epsilon, offsets, constants, an outlier and wide logits, so that a
different epsilon, an epsilon outside the root, a divisor of d - 1 or a slipped axis changes the result by
far more than rounding in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

ROWS = 26  # two unknowns per channel are solved for; this leaves 24 equations to contradict them


@lru_cache(maxsize=1)
def points() -> Array:
    """Arguments of a pointwise function: both signs, every scale on which exp and erf differ from a line."""
    sizes = [
        0.0,
        1e-4,
        0.01,
        0.1,
        0.3,
        0.5,
        0.77,
        1.0,
        1.3,
        1.9,
        2.4,
        2.9,
        3.3,
        4.2,
        5.1,
        6.0,
        7.7,
        9.3,
        12.5,
    ]
    sizes += [15.9, 19.0, 20.5, 27.0, 36.0]
    return np.array(sorted({sign * (size * 1.0009765625) for size in sizes for sign in (-1.0, 1.0)}))


@lru_cache(maxsize=1)
def far_points() -> Array:
    """Arguments where a naive spelling overflows and a clamp shows."""
    return np.array([-3e5, -7e3, -600.0, -95.0, 95.0, 600.0, 7e3, 3e5])


@lru_cache(maxsize=64)
def rows(count: int, length: int) -> Array:
    """Rows [count, length] of a row-wise operation."""
    base = np.random.default_rng(20260 + length).standard_normal((count, length))
    ramp = np.linspace(-1.0, 1.0, length)
    kinds: tuple[Callable[[int, Array], Any], ...] = (
        lambda index, x: x,
        lambda index, x: x + 10.0,
        lambda index, x: x * 1e-3,
        lambda index, x: x * 1e-6 * (1.0 + index),
        lambda index, x: x * 3e-3 - 0.002,
        lambda index, x: x * 40.0,
        lambda index, x: np.where(np.arange(length) == index % length, 30.0, x),
        lambda index, x: 0.7,
        lambda index, x: 1.0 + 1e-3 * x,
        lambda index, x: ramp * (1.0 + index % ROWS),
        lambda index, x: np.abs(x) + 0.1,
        lambda index, x: x * 0.1 - 3.0,
        lambda index, x: x * 1e-5,
    )
    result = np.empty((count, length))
    for index in range(count):
        result[index] = kinds[index % len(kinds)](index, base[index])
    result.flags.writeable = False
    return result


def tensor(shape: tuple[int, ...], seed: int) -> Array:
    """A gain, bias or other side input: both signs, no value near 0."""
    rng = np.random.default_rng(7919 + seed)
    values = rng.uniform(0.5, 2.0, shape)
    if values.size == 1:  # a number that varies may be an epsilon, which is positive
        return np.asarray(values)
    return np.asarray(np.where(rng.random(shape) < 0.3, -values, values))
