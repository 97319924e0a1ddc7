"""Arithmetic that rounds after every operation: what a graph gives in float32, float16 or bfloat16.

fl(op(a, b)), with op computed in float32 from operands of the type and fl the rounding to nearest, ties to
even. Sums and matrix products add in float32 and round once, as runtimes do. So the rounding error of a graph
in each type can be measured, and compared with another graph's, where no runtime is at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tautomer.graph.semantics.domain import Array, Axes
from tautomer.graph.semantics.mathematics import Float64

_WIDE = Float64()  # its methods keep the type of an array where numpy's functions do


class Narrow:
    """A tensor of a narrow type, with the arithmetic of Python's operators.

    Args:
        array: numbers of the type, held in float32 or float64.
        domain: the domain that rounds.
    """

    __array_ufunc__ = None  # numpy's arrays and numbers leave mixed arithmetic to us
    __slots__ = ("array", "domain")

    def __init__(self, array: Array, domain: Rounded) -> None:
        self.array, self.domain = array, domain

    def __repr__(self) -> str:
        return f"Narrow({self.array!r}, {self.domain.dtype})"

    def _with(self, f: Callable[[Any, Any], Any], other: Any) -> Narrow:
        with np.errstate(all="ignore"):
            return self.domain.rounded(f(self.array, self.domain.array(other)))

    def __add__(self, other: Any) -> Narrow:
        return self._with(lambda a, b: a + b, other)

    def __sub__(self, other: Any) -> Narrow:
        return self._with(lambda a, b: a - b, other)

    def __rsub__(self, other: Any) -> Narrow:
        return self._with(lambda a, b: b - a, other)

    def __mul__(self, other: Any) -> Narrow:
        return self._with(lambda a, b: a * b, other)

    def __truediv__(self, other: Any) -> Narrow:
        return self._with(lambda a, b: a / b, other)

    def __rtruediv__(self, other: Any) -> Narrow:
        return self._with(lambda a, b: b / a, other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Narrow:
        return Narrow(-self.array, self.domain)


def _function(name: str, arity: int = 1) -> Callable[..., Any]:
    method = getattr(_WIDE, name)

    def apply(self: Rounded, *xs: Any) -> Narrow:
        assert len(xs) == arity, name
        return self.rounded(method(*(self.array(x) for x in xs)))

    apply.__doc__ = method.__doc__
    return apply


def _reduction(name: str) -> Callable[..., Any]:
    method = getattr(_WIDE, name)

    def apply(self: Rounded, x: Any, axes: Axes, keepdims: bool) -> Narrow:
        return self.rounded(method(self.array(x), axes, keepdims))

    apply.__doc__ = method.__doc__
    return apply


class Rounded:
    """The domain of numbers of one floating type.

    Args:
        dtype: float32, float16, or a type of ml_dtypes such as bfloat16.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._held = np.dtype(np.float64 if self.dtype == np.float64 else np.float32)

    def rounded(self, x: Any) -> Narrow:
        """The nearest numbers of the type."""
        with np.errstate(all="ignore"):
            return Narrow(np.asarray(x).astype(self.dtype).astype(self._held), self)

    def constant(self, x: Any) -> Narrow:
        """Rounds."""
        return self.rounded(x)

    def array(self, x: Any) -> Array:
        """The numbers of a tensor, or of a concrete array or number, rounded."""
        return (x if isinstance(x, Narrow) else self.rounded(x)).array

    def is_value(self, x: Any) -> bool:
        """True for tensors of the type."""
        return isinstance(x, Narrow)

    def concrete(self, x: Any) -> Array:
        """The numbers in float64."""
        return self.array(x).astype(np.float64)

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape."""
        return self.array(x).shape

    def move(self, f: Callable[..., Any], *xs: Any) -> Narrow:
        """Moves elements."""
        return Narrow(np.asarray(f(*(self.array(x) for x in xs))), self)

    exp, log, expm1, log1p = _function("exp"), _function("log"), _function("expm1"), _function("log1p")
    sqrt, rsqrt, reciprocal = _function("sqrt"), _function("rsqrt"), _function("reciprocal")
    tanh, sigmoid, sin, cos = _function("tanh"), _function("sigmoid"), _function("sin"), _function("cos")
    acos, atan = _function("acos"), _function("atan")
    abs, sign = _function("abs"), _function("sign")
    floor, ceil, round = _function("floor"), _function("ceil"), _function("round")
    power, maximum, minimum = _function("power", 2), _function("maximum", 2), _function("minimum", 2)
    sum, mean, prod = _reduction("sum"), _reduction("mean"), _reduction("prod")
    amax, amin = _reduction("amax"), _reduction("amin")
    matmul = _function("matmul", 2)

    def erf(self, x: Any) -> Narrow:
        """The error function, rounded from float64."""
        return self.rounded(_WIDE.erf(self.concrete(x)))

    def where(self, condition: Array, a: Any, b: Any) -> Narrow:
        """a where the condition holds, else b."""
        return Narrow(np.where(condition, self.array(a), self.array(b)), self)

    def compare(self, op: str, a: Any, b: Any) -> Array:
        """The boolean array of a op b."""
        return _WIDE.compare(op, self.array(a), self.array(b))

    def isnan(self, x: Any) -> Array:
        """Where x is not a number."""
        return _WIDE.isnan(self.array(x))

    def isinf(self, x: Any) -> Array:
        """Where x is infinite."""
        return _WIDE.isinf(self.array(x))


class Float32(Rounded):
    """IEEE single precision."""

    def __init__(self) -> None:
        super().__init__(np.float32)
