"""The exact number behind a stored scalar: rational * radicand^(1/root) * name^power.

A file stores 0.70710677; the number meant is (1/2)^(1/2). In exact arithmetic the two are different, and a
rewrite that combines two stored constants into a third is an identity only between the numbers meant. Which
number that is, `tautomer.patterns.recognition.readings` says; here it gets a form that every exact domain can
evaluate.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from tautomer.graph.semantics.domain import is_float
from tautomer.patterns.recognition.readings import read_scalar


class Numbers(Protocol):
    """What evaluates a `Number`: elements with + - * / and these."""

    def rational(self, x: Fraction) -> Any:
        """A fraction."""

    def sqrt(self, x: Any) -> Any:
        """The root of an element."""

    def named(self, name: str) -> Any:
        """sqrt(2/pi), log2(e) or e."""


@dataclass(frozen=True)
class Number:
    """rational * radicand^(1/root) * name^power.

    Attributes:
        rational: the rational factor.
        radicand: what the root is taken of.
        root: 1, 2 or 4.
        name: a transcendental number, or "".
        power: its exponent.
    """

    rational: Fraction = Fraction(1)
    radicand: Fraction = Fraction(1)
    root: int = 1
    name: str = ""
    power: int = 1

    def evaluate(self, numbers: Numbers) -> Any:
        """The number as an element."""
        value = numbers.rational(self.rational)
        if self.root > 1:
            radical = numbers.sqrt(numbers.rational(self.radicand))
            value = value * (numbers.sqrt(radical) if self.root == 4 else radical)
        for _ in range(abs(self.power) if self.name else 0):
            factor = numbers.named(self.name)
            value = value * factor if self.power > 0 else value / factor
        return value


_ALPHA = Fraction("1.6732632423543772848170429916717")
_GAMMA = Fraction("1.0507009873554804934193349852946")
_S = "sqrt(2/pi)"
_NAMED: dict[str, Number] = {
    "1/sqrt(2)": Number(radicand=Fraction(1, 2), root=2),
    _S: Number(name=_S),
    "sqrt(pi/2)": Number(name=_S, power=-1),
    "2*sqrt(2/pi)": Number(Fraction(2), name=_S),
    "0.044715*sqrt(2/pi)": Number(Fraction("0.044715"), name=_S),
    "2/pi": Number(name=_S, power=2),
    "pi": Number(Fraction(2), name=_S, power=-2),
    "log2(e)": Number(name="log2(e)"),
    "ln(2)": Number(name="log2(e)", power=-1),
    "e": Number(name="e"),
    "selu alpha": Number(_ALPHA),
    "selu gamma": Number(_GAMMA),
    "selu alpha*gamma": Number(_ALPHA * _GAMMA),
}
_FORMS: tuple[tuple[str, int, int], ...] = (  # (spelling, root, power of n)
    (r"1/(\d+)", 1, -1),
    (r"sqrt\((\d+)\)", 2, 1),
    (r"1/sqrt\((\d+)\)", 2, -1),
    (r"(\d+)\^\(1/4\)", 4, 1),
    (r"(\d+)\^\(-1/4\)", 4, -1),
)


def spelled(name: str) -> Number | None:
    """The number that the name of a reading spells, or None when it is no such name."""
    if name.startswith("-"):
        size = spelled(name[1:])
        return size and Number(-size.rational, size.radicand, size.root, size.name, size.power)
    if name in _NAMED:
        return _NAMED[name]
    for form, root, power in _FORMS:
        if found := re.fullmatch(form, name):
            n = Fraction(int(found[1])) ** power
            return Number(n) if root == 1 else Number(radicand=n, root=root)
    return None


class Reader:
    """Reads scalars, and remembers what it read as something else than the stored value.

    Attributes:
        assumptions: one sentence per distinct reading, in order of first use.
    """

    def __init__(self) -> None:
        self.assumptions: list[str] = []

    def read(self, x: Any) -> Number | None:
        """The number that a concrete scalar is a rounding of; None when it stands for itself.

        A tensor of one element is a scalar. A double that float32 holds exactly is read as a float32, since
        the attributes of a node are stored so.
        """
        array = np.asarray(x)
        if array.size != 1 or not is_float(array.dtype):
            return None
        stored = float(array.astype(np.float64).reshape(()))
        if not math.isfinite(stored):
            return None
        dtype = array.dtype
        if dtype == np.float64 and float(np.float32(np.clip(stored, -3e38, 3e38))) == stored:
            dtype = np.dtype(np.float32)
        reading = read_scalar(stored, dtype)
        number = spelled(reading.name)
        if number is None:
            if not _spells(reading.name, reading.value):
                return None
            number = Number(Fraction(reading.name))
        if number == Number(Fraction(stored)):
            return None
        note = f"the {dtype.name} constant {stored!r} is read as {reading.name}"
        if note not in self.assumptions:
            self.assumptions.append(note)
        return number


def _spells(name: str, value: float) -> bool:
    """True when the name is a decimal of few digits that is the value, not a rounding of it."""
    try:
        return float(name) == value and len(name.split("e")[0].strip("-").replace(".", "").lstrip("0")) <= 6
    except ValueError:
        return False
