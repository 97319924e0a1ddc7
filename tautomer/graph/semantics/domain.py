"""The abstract mathematics that operators are written in: a domain of numbers and what can be done with them.

A float tensor of a graph is a value of the domain, whatever the domain makes of it. Integer and boolean
tensors are numpy arrays in every domain: positions, shapes and masks steer the data and are not data. Values
know + - * / and unary minus through Python's operators, among themselves and with Python numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Axes = tuple[int, ...]
Array = NDArray[Any]


_LAYOUTS = "com.microsoft.nchwc"  # what onnxruntime makes of convolutions at ORT_ENABLE_ALL


class Unsupported(Exception):
    """An operator, or this form of it, has no meaning here.

    Args:
        op: the operator's name.
        reason: what about it.
    """

    def __init__(self, op: str, reason: str = "") -> None:
        self.op, self.reason = op, reason
        super().__init__(f"{op}: {reason}" if reason else op)


def no_meaning(op: str, domain: str) -> Unsupported:
    """The refusal of an operator that nobody has said the meaning of."""
    where = f" in domain '{domain}'" if domain else ""
    layout = "; it is a layout of one processor, which a model saved at ORT_ENABLE_EXTENDED does without"
    return Unsupported(op, f"no meaning{where} yet{layout if domain == _LAYOUTS else ''}")


class Mathematics(Protocol):
    """A domain of numbers.

    Any method may raise `Unsupported` where the domain has no answer: a prime field has no order, and a
    domain of intervals has no single concrete number.
    """

    def constant(self, x: Any) -> Any:
        """Lifts a concrete array or number of any kind to a value."""

    def is_value(self, x: Any) -> bool:
        """True for a value of the domain, False for a concrete integer or boolean array."""

    def concrete(self, x: Any) -> Array:
        """The value as a float64 array, where the domain can say it."""

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape of a value."""

    def move(self, f: Callable[..., Any], *xs: Any) -> Any:
        """Moves elements: f maps arrays to one array and only picks, repeats and places their elements.

        f must not look at the elements, and may be called more than once, with arrays of any dtype.
        """

    def exp(self, x: Any) -> Any: ...
    def log(self, x: Any) -> Any: ...
    def log1p(self, x: Any) -> Any: ...
    def expm1(self, x: Any) -> Any: ...
    def sqrt(self, x: Any) -> Any: ...
    def rsqrt(self, x: Any) -> Any: ...
    def reciprocal(self, x: Any) -> Any: ...
    def erf(self, x: Any) -> Any: ...
    def tanh(self, x: Any) -> Any: ...
    def sigmoid(self, x: Any) -> Any: ...
    def sin(self, x: Any) -> Any: ...
    def cos(self, x: Any) -> Any: ...
    def acos(self, x: Any) -> Any: ...
    def atan(self, x: Any) -> Any: ...
    def abs(self, x: Any) -> Any: ...
    def sign(self, x: Any) -> Any: ...
    def floor(self, x: Any) -> Any: ...
    def ceil(self, x: Any) -> Any: ...

    def round(self, x: Any) -> Any:
        """To the nearest whole number, ties to even."""

    def power(self, x: Any, y: Any) -> Any:
        """x to the power of a value or a Python number."""

    def maximum(self, a: Any, b: Any) -> Any: ...
    def minimum(self, a: Any, b: Any) -> Any: ...

    def where(self, condition: Array, a: Any, b: Any) -> Any:
        """a where the boolean array holds, else b; all three broadcast."""

    def compare(self, op: str, a: Any, b: Any) -> Array:
        """The boolean array of a op b, op one of < <= > >= ==."""

    def isnan(self, x: Any) -> Array: ...
    def isinf(self, x: Any) -> Array: ...
    def sum(self, x: Any, axes: Axes, keepdims: bool) -> Any: ...
    def mean(self, x: Any, axes: Axes, keepdims: bool) -> Any: ...
    def prod(self, x: Any, axes: Axes, keepdims: bool) -> Any: ...

    def amax(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The maximum; of nothing it is -inf."""

    def amin(self, x: Any, axes: Axes, keepdims: bool) -> Any:
        """The minimum; of nothing it is +inf."""

    def matmul(self, a: Any, b: Any) -> Any:
        """The matrix product, broadcast over leading axes as numpy does."""


def is_float(dtype: np.dtype[Any]) -> bool:
    """True for numpy's floating types and for the narrow ones of ml_dtypes, which numpy calls void."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name.startswith(("bfloat", "float")))
