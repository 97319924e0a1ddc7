"""The distance between a result and an operation, and the norm that comes nearest to a result."""

from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
POSITIVE = np.concatenate([[0.0], np.logspace(-14, 3, 35)])
# a step of the guesses changes a norm by less than this
HOPELESS = 0.5
FLOOR = 1e-6
GOLDEN = (5**0.5 - 1) / 2


def deviation(got: Array, want: Array) -> float:
    """The largest relative difference; where only one of the two is finite, infinity."""
    if got.shape != want.shape:
        return np.inf
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    scale = np.maximum(np.maximum(np.abs(got), np.abs(want)), FLOOR)
    apart = np.where(same, 0.0, np.abs(got - want) / scale)
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def least(
    distance: Callable[[float], float], guesses: Sequence[float] = POSITIVE, hopeless: float = HOPELESS
) -> float:
    """The smallest distance near the best of the guesses, by golden section."""
    found = [distance(guess) for guess in guesses]
    best = int(np.argmin(found))
    if found[best] > hopeless:
        return found[best]
    low, high = guesses[max(best - 1, 0)], guesses[min(best + 1, len(guesses) - 1)]
    smallest = found[best]
    for _ in range(60):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        at_left, at_right = distance(left), distance(right)
        smallest = min(smallest, at_left, at_right)
        low, high = (low, right) if at_left < at_right else (left, high)
    return smallest


def axes_of(x: Array) -> list[tuple[int, ...]]:
    """Every single axis and every run of trailing axes, without the axis of samples."""
    rank = x.ndim - 1
    return [(-n,) for n in range(1, rank + 1)] + [tuple(range(-n, 0)) for n in range(2, rank + 1)]


def norm(u: Array, v: Array, *, centre: bool) -> float:
    """A norm of u over some axes with any epsilon, and any scale and bias along these axes."""
    if u.shape != v.shape or not (np.isfinite(u).all() and np.isfinite(v).all()):
        return np.inf
    return min((over(u, v, axes, centre) for axes in axes_of(u)), default=np.inf)


def over(u: Array, v: Array, axes: tuple[int, ...], centre: bool) -> float:
    rows = [np.moveaxis(x, axes, range(-len(axes), 0)) for x in (u, v)]
    width = int(np.prod(rows[0].shape[-len(axes) :]))
    source, result = (x.reshape(-1, width) for x in rows)
    off = source - source.mean(-1, keepdims=True) if centre else source
    power = (off * off).mean(-1, keepdims=True)
    if width < 2 or len(off) < 6 or not power.all():
        return np.inf
    size = np.maximum(np.abs(result).max(-1, keepdims=True), FLOOR)

    def distance(epsilon: float) -> float:
        n = off / np.sqrt(power + epsilon)
        middle, shift = (n.mean(0), result.mean(0)) if centre else (0.0, 0.0)
        scale = ((n - middle) * (result - shift)).sum(0) / ((n - middle) ** 2).sum(0)
        left = result - shift - scale * (n - middle)
        return float((np.abs(left) / size).max())

    return least(distance)
