"""The domain of float64 arrays: the one that recognises, and the oracle of the tests.

The protocol of all domains is in `domain`; it is offered here too, for those who want both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tautomer.graph.semantics.arrays import Arrays
from tautomer.graph.semantics.domain import Array, Axes, Mathematics, Unsupported
from tautomer.graph.semantics.erf import erf

__all__ = ["Float64", "Mathematics", "Unsupported"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _silent(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Overflow, division by zero and nan are results here, not accidents."""

    @wraps(method)
    def quiet(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with np.errstate(all="ignore"):
            return method(*args, **kwargs)

    return quiet


class Float64(Arrays):
    """IEEE double precision. A value is a float64 array; special values go through without a warning."""

    def constant(self, x: Any) -> Any:
        """A new float64 array; narrow floats, integers and booleans are exact in it (int64 to 2^53)."""
        return np.asarray(x).astype(np.float64)

    def is_value(self, x: Any) -> bool:
        """True for float64 arrays and numbers."""
        return isinstance(x, (np.ndarray, np.floating)) and x.dtype == np.float64

    def concrete(self, x: Any) -> Array:
        """The array itself."""
        return np.asarray(x)

    @_silent
    def exp(self, x: Any) -> Any:
        """e^x."""
        return np.exp(x)

    @_silent
    def log(self, x: Any) -> Any:
        """The natural logarithm."""
        return np.log(x)

    @_silent
    def log1p(self, x: Any) -> Any:
        """log(1 + x)."""
        return np.log1p(x)

    @_silent
    def expm1(self, x: Any) -> Any:
        """e^x - 1."""
        return np.expm1(x)

    @_silent
    def sqrt(self, x: Any) -> Any:
        """The square root."""
        return np.sqrt(x)

    @_silent
    def rsqrt(self, x: Any) -> Any:
        """1 / sqrt(x)."""
        return 1.0 / np.sqrt(x)

    @_silent
    def reciprocal(self, x: Any) -> Any:
        """1 / x."""
        return 1.0 / np.asarray(x)

    @_silent
    def erf(self, x: Any) -> Any:
        """The error function."""
        return erf(np.asarray(x))

    @_silent
    def tanh(self, x: Any) -> Any:
        """The hyperbolic tangent."""
        return np.tanh(x)

    @_silent
    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + e^-x)."""
        e = np.exp(-np.abs(x))  # never overflows, and keeps the small end relative
        return np.where(np.asarray(x) >= 0.0, 1.0, e) / (1.0 + e)

    @_silent
    def sin(self, x: Any) -> Any:
        """The sine."""
        return np.sin(x)

    @_silent
    def cos(self, x: Any) -> Any:
        """The cosine."""
        return np.cos(x)

    @_silent
    def acos(self, x: Any) -> Any:
        """The angle between 0 and pi whose cosine is x."""
        return np.arccos(x)

    @_silent
    def atan(self, x: Any) -> Any:
        """The angle between -pi / 2 and pi / 2 whose tangent is x."""
        return np.arctan(x)

    @_silent
    def floor(self, x: Any) -> Any:
        """The largest whole number not above x."""
        return np.floor(x)

    @_silent
    def ceil(self, x: Any) -> Any:
        """The smallest whole number not below x."""
        return np.ceil(x)

    @_silent
    def round(self, x: Any) -> Any:
        """To the nearest whole number, ties to even."""
        return np.rint(x)

    @_silent
    def power(self, x: Any, y: Any) -> Any:
        """x^y."""
        return np.power(x, y)

    @_silent
    def mean(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The arithmetic mean; of nothing it is nan."""
        count = np.prod([x.shape[axis] for axis in axes], dtype=np.float64)
        return np.sum(x, axis=axes, keepdims=keepdims) / count

    @_silent
    def sum(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The sum; numpy adds pairwise."""
        return np.sum(x, axis=axes, keepdims=keepdims)

    @_silent
    def prod(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The product."""
        return np.prod(x, axis=axes, keepdims=keepdims)

    def isnan(self, x: Any) -> Array:
        """Where x is not a number."""
        return np.asarray(np.isnan(x))

    def isinf(self, x: Any) -> Array:
        """Where x is infinite."""
        return np.asarray(np.isinf(x))
