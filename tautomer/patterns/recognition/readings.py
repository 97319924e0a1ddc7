"""Which number did the author mean? A stored constant read as the number it is a rounding of.

A file holds 0.70710677 in float32; the author wrote 1/sqrt(2). Comparing in float64 needs the number that
was meant. A constant is read as a candidate only when the candidate, rounded to the constant's own storage
type, is the stored value: every reading lies within half an ulp of what the file says. Looser readings
(1.4142 for sqrt 2) are wrong by more than rounding and are taken only in "nominal" mode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Mode = Literal["exact", "nominal"]

# Irrational numbers that definitions contain, and their reciprocals; and a decimal that half precision cuts.
_NAMED: tuple[tuple[str, float], ...] = (
    ("sqrt(2)", math.sqrt(2.0)),
    ("1/sqrt(2)", math.sqrt(0.5)),
    ("sqrt(2/pi)", math.sqrt(2.0 / math.pi)),
    ("sqrt(pi/2)", math.sqrt(math.pi / 2.0)),
    ("2*sqrt(2/pi)", 2.0 * math.sqrt(2.0 / math.pi)),
    ("0.044715*sqrt(2/pi)", 0.044715 * math.sqrt(2.0 / math.pi)),
    ("0.044715", 0.044715),
    ("2/pi", 2.0 / math.pi),
    ("log2(e)", math.log2(math.e)),
    ("ln(2)", math.log(2.0)),
    ("e", math.e),
    ("pi", math.pi),
    ("selu alpha", 1.6732632423543772848170429916717),
    ("selu gamma", 1.0507009873554804934193349852946),
    ("selu alpha*gamma", 1.6732632423543772848170429916717 * 1.0507009873554804934193349852946),
)
_NOMINAL_TOLERANCE = 2e-3  # 1.414, 0.7979, and constants rounded to bfloat16 before they were stored
_LARGEST_ROOT = 1 << 16  # beyond it 1/sqrt(n) is so dense that any float32 is one
_SIGNIFICANT = 6  # a decimal of up to six digits is what somebody typed


@dataclass(frozen=True)
class Reading:
    """A constant, what it is read as, and whether that took more than rounding.

    Attributes:
        stored: the value in the file.
        value: the number it is read as, in float64.
        name: how to write that number.
        nominal: True when the difference is more than the rounding of the storage type.
    """

    stored: float
    value: float
    name: str
    nominal: bool = False


def _rounds_to(candidate: float, stored: float, dtype: np.dtype[Any]) -> bool:
    if abs(candidate - stored) <= 2.0 * math.ulp(stored):
        return True
    if dtype == np.float64:
        return False
    rounded = float(np.asarray(stored).astype(dtype))
    if rounded != stored:  # computed by the graph from stored constants: each step may round once
        return abs(candidate - stored) <= float(np.spacing(np.asarray(abs(rounded)).astype(dtype)))
    return float(np.asarray(candidate).astype(dtype)) == stored


def _decimal(stored: float, dtype: np.dtype[Any]) -> float:
    """The shortest decimal that rounds to the stored value."""
    if dtype == np.float64:
        return stored
    if dtype == np.float32:
        return float(np.format_float_scientific(np.float32(stored)))
    for digits in range(1, 9):
        decimal = float(f"{stored:.{digits}g}")
        if _rounds_to(decimal, stored, dtype):
            return decimal
    return stored


@lru_cache(maxsize=65536)
def read_scalar(stored: float, dtype: np.dtype[Any], mode: Mode = "exact") -> Reading:
    """Reads one floating point constant.

    Args:
        stored: its value.
        dtype: the type it is stored in.
        mode: "exact" takes roundings only; "nominal" also numbers that somebody typed short.
    """
    if stored == 0.0 or not math.isfinite(stored):
        return Reading(stored, stored, repr(stored))
    decimal = _decimal(stored, dtype)
    sign, size = math.copysign(1.0, stored), abs(stored)
    short = len(f"{decimal:e}".split("e")[0].strip("-").replace(".", "").rstrip("0")) <= _SIGNIFICANT
    reading = _named(stored, sign, size, dtype)
    if reading is None and short:
        reading = Reading(stored, decimal, f"{decimal:g}")
    if reading is None:
        reading = _root(stored, sign, size, dtype) or Reading(stored, decimal, repr(decimal))
    if mode == "nominal" and reading.value in (stored, decimal):
        for name, value in _NAMED:
            if abs(size - value) <= _NOMINAL_TOLERANCE * value and _typed_short(abs(decimal), value):
                return Reading(stored, sign * value, name if sign > 0 else f"-{name}", nominal=True)
    return reading


def _typed_short(size: float, value: float) -> bool:
    """True when `size` is `value` cut or rounded to three digits or more, or rounded to half precision."""
    digits = len(f"{size:e}".split("e")[0].replace(".", "").rstrip("0"))
    if 3 <= digits <= 8 and abs(size - value) <= 10.0 ** (math.floor(math.log10(value)) - digits + 1):
        return True
    half = float(np.float16(value))
    bfloat = float((np.array([value], np.float32).view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)[0])
    return abs(size - half) <= 1e-7 * half or abs(size - bfloat) <= 1e-7 * bfloat


def _named(stored: float, sign: float, size: float, dtype: np.dtype[Any]) -> Reading | None:
    for name, value in _NAMED:
        if _rounds_to(value, size, dtype):
            return Reading(stored, sign * value, name if sign > 0 else f"-{name}")
    return None


def _root(stored: float, sign: float, size: float, dtype: np.dtype[Any]) -> Reading | None:
    """Reads 1/n, sqrt(n), 1/sqrt(n) and fourth roots: divisors and scales of a row of n."""
    for name, guess, rebuild in (
        ("1/{}", 1.0 / size, lambda n: 1.0 / n),
        ("sqrt({})", size * size, math.sqrt),
        ("1/sqrt({})", 1.0 / (size * size), lambda n: 1.0 / math.sqrt(n)),
        ("{}^(1/4)", size**4, lambda n: math.sqrt(math.sqrt(n))),
        ("{}^(-1/4)", size**-4, lambda n: 1.0 / math.sqrt(math.sqrt(n))),
    ):
        if not 1.0 <= guess < _LARGEST_ROOT + 0.5:
            continue
        n = round(guess)
        if _rounds_to(rebuild(n), size, dtype):
            return Reading(stored, sign * rebuild(n), ("" if sign > 0 else "-") + name.format(n))
    return None
