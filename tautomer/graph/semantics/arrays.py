"""Concrete arrays with the methods of a domain: what integer and boolean tensors are computed with."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tautomer.graph.semantics.domain import Array, Axes, Mathematics

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}


class Arrays:
    """The part of a domain that numpy answers alike for every kind of number; kinds are kept."""

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape of an array or number."""
        return np.shape(x)

    def move(self, f: Callable[..., Any], *xs: Any) -> Any:
        """Moves elements."""
        return f(*(np.asarray(x) for x in xs))

    def abs(self, x: Any) -> Any:
        """Absolute value."""
        return np.abs(x)

    def sign(self, x: Any) -> Any:
        """-1, 0 or 1; nan for nan."""
        return np.sign(x)

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger; nan if either is."""
        return np.maximum(a, b)

    def minimum(self, a: Any, b: Any) -> Any:
        """The smaller; nan if either is."""
        return np.minimum(a, b)

    def where(self, condition: Array, a: Any, b: Any) -> Any:
        """a where the condition holds, else b."""
        return np.where(condition, a, b)

    def compare(self, op: str, a: Any, b: Any) -> Array:
        """The boolean array of a op b."""
        return np.asarray(_COMPARISONS[op](np.asarray(a), np.asarray(b)), dtype=bool)

    def sum(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The sum."""
        return np.sum(x, axis=axes, keepdims=keepdims, dtype=x.dtype)

    def prod(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The product."""
        return np.prod(x, axis=axes, keepdims=keepdims, dtype=x.dtype)

    def amax(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The maximum; the smallest number of the type for nothing."""
        return np.amax(x, axis=axes, keepdims=keepdims, initial=_bounds(x.dtype)[0])

    def amin(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The minimum; the largest number of the type for nothing."""
        return np.amin(x, axis=axes, keepdims=keepdims, initial=_bounds(x.dtype)[1])

    def matmul(self, a: Any, b: Any) -> Any:
        """The matrix product."""
        with np.errstate(all="ignore"):
            return np.matmul(a, b)


class Concrete(Arrays):
    """Integer and boolean tensors."""

    def is_value(self, x: Any) -> bool:
        """Nothing concrete is a value."""
        return False

    def constant(self, x: Any) -> Any:
        """A number as it stands: numpy gives it the type of the array that it meets."""
        return x

    def concrete(self, x: Any) -> Array:
        """The array."""
        return np.asarray(x)

    def mean(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The mean, rounded toward zero."""
        return np.trunc(np.mean(x, axis=axes, keepdims=keepdims)).astype(x.dtype)


CONCRETE = Concrete()


def kind_of(m: Mathematics, *xs: Any) -> Any:
    """The mathematics for these operands: m if any of them is a value, else that of concrete arrays."""
    return m if any(m.is_value(x) for x in xs if x is not None) else CONCRETE


def integers(m: Mathematics, x: Any) -> Array:
    """Positions or sizes as an array of integers; a few operators also take them as floats."""
    array = m.concrete(x) if m.is_value(x) else np.asarray(x)
    return array.astype(np.int64)


def integer_list(m: Mathematics, x: Any) -> list[int]:
    """Positions or sizes as Python integers."""
    return [int(i) for i in integers(m, x).reshape(-1)]


def _bounds(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    if dtype.kind == "b":
        return False, True
    return np.iinfo(dtype).min, np.iinfo(dtype).max
