"""A tensor of ring elements: slabs of residues, and marks where it is minus infinity instead."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from tautomer.graph.semantics.domain import Array
from tautomer.verify.field.comparison import Comparison
from tautomer.verify.field.modular import Words
from tautomer.verify.field.ring import Ring, Slabs


class Operations(Protocol):
    """What a tensor's operators need of its domain.

    Attributes:
        ring: the ring of the elements.
    """

    ring: Ring

    def add(self, x: Any, y: Any) -> Residues: ...
    def subtract(self, x: Any, y: Any) -> Residues: ...
    def multiply(self, x: Any, y: Any) -> Residues: ...
    def divide(self, x: Any, y: Any) -> Residues: ...
    def negate(self, x: Any) -> Residues: ...


class Residues:
    """A tensor, with the arithmetic of Python's operators.

    Args:
        slabs: arrays of residues, all of the tensor's shape.
        domain: the domain that it is a value of, which computes.
        low: where the element is -inf, and its residues 0; None for nowhere.
        known: the numbers themselves, when they are constants that were at most moved.
    """

    __array_ufunc__ = None  # numpy's arrays and numbers leave mixed arithmetic to us
    __slots__ = ("domain", "known", "low", "slabs")

    def __init__(
        self, slabs: Slabs, domain: Operations, low: Array | None = None, known: Array | None = None
    ) -> None:
        self.domain, self.known = domain, known
        if low is not None and not low.any():
            low = None
        self.low = low
        self.slabs = slabs if low is None else tuple(np.where(low, np.uint64(0), x) for x in slabs)

    def __repr__(self) -> str:
        return f"Residues({self.shape}, {len(self.slabs)} slabs)"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.slabs[0].shape

    @property
    def masked(self) -> Array:
        """Where the element is -inf, as an array."""
        return np.zeros(self.shape, dtype=bool) if self.low is None else self.low

    def words(self) -> tuple[Words, ...]:
        """The elements as words, equal for equal elements whatever they were computed by."""
        marks = self.masked.astype(np.uint64)
        return self.domain.ring.words(self.slabs, "fingerprint"), marks

    def __add__(self, other: Any) -> Residues:
        return self.domain.add(self, other)

    def __sub__(self, other: Any) -> Residues:
        return self.domain.subtract(self, other)

    def __rsub__(self, other: Any) -> Residues:
        return self.domain.subtract(other, self)

    def __mul__(self, other: Any) -> Residues:
        return self.domain.multiply(self, other)

    def __truediv__(self, other: Any) -> Residues:
        return self.domain.divide(self, other)

    def __rtruediv__(self, other: Any) -> Residues:
        return self.domain.divide(other, self)

    def __neg__(self) -> Residues:
        return self.domain.negate(self)

    __radd__, __rmul__ = __add__, __mul__


def agree(a: Residues, b: Residues) -> Comparison:
    """Compares element by element; a residue that only one of them has is left out.

    Unequal residues prove that two expressions differ, given the domain's assumptions. Equal ones are
    evidence of identity: different expressions meet in an element with probability about degree / p.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape}")
    different = a.masked != b.masked
    left, right = a.domain.ring.common([a.slabs, b.slabs])
    for x, y in zip(left, right, strict=True):
        different = different | (x != y)
    return Comparison.of(different, np.zeros(different.shape, dtype=bool))
