"""Exact domains behind one interface: how to make one, compare its values, and hash them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.verify.ball import Ball, Balls, agree
from tautomer.verify.blocks import blocks
from tautomer.verify.field.domain import JetField
from tautomer.verify.field.value import Residues
from tautomer.verify.fingerprint import Words
from tautomer.verify.weights import weights_of

# A fingerprint of balls hashes their centres cut to a float64: two balls of one number, known to 2^-200,
# fall on different sides of a rounding boundary once in 2^140 elements.


@dataclass(frozen=True)
class Outcome:
    """How two tensors compare.

    Attributes:
        elements: how many there are.
        different: how many were shown to differ.
        undecided: how many could not be told.
    """

    elements: int
    different: int
    undecided: int = 0


class Exact(Protocol):
    """A domain in which equality means something without a tolerance.

    Attributes:
        name: for reports.
        domain: the mathematics.
        proves: whether a difference found in it is one between real numbers for certain.
    """

    name: str
    domain: Mathematics
    proves: bool

    def enter(self, array: Any) -> Any:
        """A float input as a value."""

    def compare(self, a: Any, b: Any) -> Outcome:
        """Compares two float values of the domain."""

    def slabs(self, value: Any) -> Sequence[Words] | None:
        """The elements of a float value as words, for fingerprints."""

    @property
    def assumptions(self) -> Sequence[str]:
        """What was taken for granted so far."""


class BallArithmetic:
    """Ball arithmetic: disjoint balls prove a difference, agreement to 3/4 of the bits is the evidence.

    Args:
        bits: the working precision.
    """

    proves = True

    def __init__(self, bits: int = 256) -> None:
        self._ball = Ball(bits, read=True)
        self.domain: Mathematics = self._ball
        self.name = f"ball arithmetic, {bits} bits"

    def enter(self, array: Any) -> Any:
        """The numbers themselves."""
        return self.domain.constant(array)

    def compare(self, a: Any, b: Any) -> Outcome:
        """Compares element by element."""
        found = agree(a, b, self._ball.bits * 3 // 4)
        return Outcome(found.elements, found.different, found.undecided)

    def slabs(self, value: Any) -> Sequence[Words] | None:
        """The centres as float64 bits."""
        if not isinstance(value, Balls):
            return None
        centres = value.array.astype(np.float64)
        # + 0.0: -0 is 0
        return (np.ascontiguousarray(centres + 0.0).view(np.uint64),)

    @property
    def assumptions(self) -> Sequence[str]:
        """The constants that were read as the numbers they are roundings of."""
        return self._ball.assumptions


_SATURATES = -1e30  # finfo.min of float32 and wider: a mask written without an infinity


class _SaturatingField(JetField):
    """Jets in which a mask of finfo.min is one of -inf, as it is after any softmax or sigmoid."""

    saturated = False

    def exact(self, array: Any) -> Residues:
        """The numbers themselves, but for masks."""
        if array.dtype.kind == "f" and any(np.any(block <= _SATURATES) for block in blocks(array)):
            numbers = array.astype(np.float64)
            masking = numbers <= _SATURATES
            self.saturated = self.saturated or bool(np.any(masking & np.isfinite(array)))
            array = np.where(masking, -np.inf, numbers)
        return super().exact(array)


class FieldArithmetic:
    """Jets of order 4 modulo a random prime: whole models at full width, with no rounding.

    The exponential is known by exp(x + y) = exp(x) exp(y) up to its fourth order; tanh, erf and other
    functions by their symmetries only. What differs for the reals may agree here, with a chance near the
    degree over 2^30; what agrees for the reals for another reason is told apart by mistake, and then ball
    arithmetic decides.

    Args:
        seed: the prime and everything random follow from it.
        saturate: take masks of finfo.min for masks of -inf.
        expand: compute tanh and sigmoid from exp, which equates their spellings.
    """

    name = "a prime field, jets of order 4"
    proves = False

    def __init__(self, seed: int, *, saturate: bool = True, expand: bool = False) -> None:
        self._field = (_SaturatingField if saturate else JetField)(seed, maxima="shared", expand=expand)
        self.domain: Mathematics = self._field

    def enter(self, array: Any) -> Any:
        """An input: nothing is known of its sign."""
        return self._field.input(array)

    def compare(self, a: Any, b: Any) -> Outcome:
        """Compares residues and marks of -inf."""
        different = np.any([x != y for x, y in zip(a.words(), b.words(), strict=True)], axis=0)
        return Outcome(int(np.size(different)), int(np.sum(different)))

    def slabs(self, value: Any) -> Sequence[Words] | None:
        """The residues and marks."""
        words: Sequence[Words] | None = value.words() if isinstance(value, Residues) else None
        return words

    @property
    def assumptions(self) -> Sequence[str]:
        """The readings of constants, and what is known of functions."""
        notes = ["exp is known to fourth order; tanh, erf and log by symmetry only"]
        if getattr(self._field, "saturated", False):
            notes.append("masks saturate: adding finfo.min to a score removes it, as adding -inf does")
        return [*self._field.assumptions, *notes]


# Ball arithmetic costs about 1 us per weight and input row; beyond this a check would take minutes.
_MOST_WEIGHTS = 3_000_000


def is_wide(model: ir.Model) -> bool:
    """Whether a model is too large for ball arithmetic as a whole."""
    return weights_of(model) > _MOST_WEIGHTS


def choose_exact(model: ir.Model) -> Sequence[Callable[[], Exact]]:
    """The domains for a model of this size, to be tried in order until one can tell."""
    if is_wide(model):
        # the most abstract first: what agrees there needs no more; then another prime, tanh by exp, and
        # masks as numbers where -inf has no meaning
        return (
            lambda: FieldArithmetic(1),
            lambda: FieldArithmetic(2, expand=True),
            lambda: FieldArithmetic(3, saturate=False, expand=True),
        )
    return BallArithmetic, lambda: BallArithmetic(1024)


def compare_values(exact: Exact, a: Any, b: Any) -> Outcome:
    """Compares two outputs, floats of the domain or concrete integers.

    Raises:
        Unsupported: one of them is a float and the other is not.
    """
    floats = exact.domain.is_value(a), exact.domain.is_value(b)
    if floats[0] != floats[1]:
        raise Unsupported("output", "it is a float in one model only")
    shapes = tuple(
        exact.domain.shape(x) if is_float else np.shape(x) for x, is_float in zip((a, b), floats, strict=True)
    )
    if shapes[0] != shapes[1]:
        size = max(int(np.prod(shapes[0])), 1)
        return Outcome(size, size)
    if floats[0]:
        return exact.compare(a, b)
    return Outcome(int(np.size(a)), int(np.sum(np.asarray(a) != np.asarray(b))))
