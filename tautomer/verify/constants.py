"""Folded constants: each one is its defining expression, rounded once.

    |stored - exact| <= ulp(stored) / 2

A weight that was computed in the narrow type, as exporters do it, is off by hundreds of ulp where the
expression cancels; computed wide and rounded once, it is off by a half at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tautomer.graph.semantics.domain import Unsupported
from tautomer.verify.ball import Balls

Wide = NDArray[Any]

# name -> stored bits after the leading one, least exponent of a normal number, largest number
_FORMATS = {
    "bfloat16": (7, -126, (2.0 - 2.0**-7) * 2.0**127),
    "float16": (10, -14, 65504.0),
    "float32": (23, -126, (2.0 - 2.0**-23) * 2.0**127),
    "float64": (52, -1022, float(np.finfo(np.float64).max)),
}
# An oracle in float64 is itself off by this much where a float32 weight is 2^-19 of what it was cut from.
_SLACK = 2.0**-10
_HALF = 0.5


@dataclass(frozen=True)
class Format:
    """What there is to know of a float type.

    Attributes:
        digits: bits after the leading one.
        tiny: the least normal number.
        largest: the largest number.
    """

    digits: int
    tiny: float
    largest: float

    @property
    def roundoff(self) -> float:
        """The largest relative error of rounding once."""
        return float(2.0 ** -(self.digits + 1))


def format_of(dtype: DTypeLike) -> Format:
    """The format of a float type.

    Raises:
        Unsupported: a type that is none of float64, float32, float16 and bfloat16.
    """
    name = np.dtype(dtype).name
    if name not in _FORMATS:
        raise Unsupported("format", f"of {name}")
    digits, exponent, largest = _FORMATS[name]
    return Format(digits, 2.0**exponent, largest)


def ulp(x: Any, dtype: DTypeLike) -> Wide:
    """2^(floor(log2 |x|) - digits): the distance of neighbours of the type around x; nan for inf and nan."""
    kind = format_of(dtype)
    wide = np.abs(np.asarray(x).astype(np.float64))
    _, exponents = np.frexp(np.maximum(wide, kind.tiny))
    spacing = np.ldexp(1.0, exponents - 1 - kind.digits)
    return np.where(np.isfinite(wide), spacing, np.nan)


@dataclass(frozen=True)
class ConstantCheck:
    """How well a stored constant is rounded.

    Attributes:
        max_ulp: the largest error, in ulp of the stored number.
        misrounded: how many elements are off by more than half an ulp.
        ok: none is.
    """

    max_ulp: float
    misrounded: int
    ok: bool


def check_constant(stored: Wide, exact: Callable[[], Any]) -> ConstantCheck:
    """Compares a constant with its defining expression.

    Args:
        stored: the constant as the file has it.
        exact: evaluates the expression in a wider type than the constant's, or in balls.

    Raises:
        Unsupported: the expression comes in no wider type than the constant.
    """
    value = exact()
    shape = value.array.shape if isinstance(value, Balls) else np.shape(value)
    if shape != stored.shape:
        return ConstantCheck(float("inf"), max(stored.size, 1), False)
    errors = (
        _errors_of_balls(stored, value) if isinstance(value, Balls) else _errors(stored, np.asarray(value))
    )
    misrounded = int(np.sum(~(errors <= _HALF + _SLACK)))
    return ConstantCheck(float(np.max(errors, initial=0.0)), misrounded, misrounded == 0)


def _errors(stored: Wide, exact: Wide) -> Wide:
    kind = format_of(stored.dtype)
    if exact.dtype.kind != "f" or np.finfo(exact.dtype).nmant <= kind.digits:
        raise Unsupported("constant", f"its expression in {exact.dtype} is no wider than {stored.dtype}")
    wide = stored.astype(exact.dtype)
    with np.errstate(all="ignore"):
        errors = np.abs(wide - exact) / ulp(stored, stored.dtype)
        same = (wide == exact) | (np.isnan(wide) & np.isnan(exact))
        beyond = np.isinf(wide) & (np.sign(wide) == np.sign(exact)) & (np.abs(exact) > kind.largest)
    errors = np.where(same | beyond, 0.0, errors)
    return np.asarray(np.where(np.isnan(errors), np.inf, errors), dtype=np.float64)


def _errors_of_balls(stored: Wide, exact: Balls) -> Wide:
    wide, spacing = stored.astype(np.float64), ulp(stored, stored.dtype)
    errors = np.full(stored.shape, np.inf)
    for place in np.ndindex(stored.shape):
        ball: Any = exact.array[place]
        if np.isfinite(wide[place]) and ball.is_finite():
            errors[place] = float(abs(ball - float(wide[place])).upper()) / spacing[place]
        elif wide[place] == -np.inf and float(ball.upper()) == -np.inf:
            errors[place] = 0.0
    return errors
