"""What a field domain computes in: elements that are tuples of arrays of residues, the slabs.

An array of elements is a tuple of arrays of one shape. What a slab means is the ring's business: a
coefficient of a power of t, or the residue modulo another prime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from tautomer.graph.semantics.domain import Array, Axes
from tautomer.verify.field.modular import Words

Slabs = tuple[Words, ...]


class Ring(Protocol):
    """A commutative ring with an exponential, a multiplicative root and a multiplicative sign.

    Attributes:
        name: for reports.
        slabs: the most slabs that an element has.
    """

    name: str
    slabs: int

    def common(self, xs: Sequence[Slabs]) -> list[Slabs]:
        """The same elements with equally many slabs each, so that they can be put together."""

    def each(self, f: Callable[[int], Words]) -> Slabs:
        """A number whose residue modulo each prime is given."""

    def integers(self, x: Array) -> Slabs:
        """Whole numbers."""

    def floats(self, x: Array) -> Slabs:
        """Finite float64 numbers, exactly."""

    def fraction(self, x: Fraction) -> Slabs:
        """A rational number, as an array of rank 0."""

    def add(self, a: Slabs, b: Slabs) -> Slabs: ...
    def sub(self, a: Slabs, b: Slabs) -> Slabs: ...
    def neg(self, a: Slabs) -> Slabs: ...
    def mul(self, a: Slabs, b: Slabs) -> Slabs: ...

    def matmul(self, a: Slabs, b: Slabs) -> Slabs:
        """The matrix product."""

    def sum(self, a: Slabs, axes: Axes, keepdims: bool) -> Slabs: ...

    def inverse(self, a: Slabs) -> Slabs:
        """1 / a; raises ZeroDivisorError."""

    def exp(self, a: Slabs) -> Slabs:
        """A homomorphism from sums to products."""

    def sqrt(self, a: Slabs) -> Slabs:
        """A homomorphism of products whose square is its argument or, at non-squares, a twist of it."""

    def sign(self, a: Slabs) -> Slabs:
        """A homomorphism of products to 1, -1 and 0, odd."""

    def opaque(self, a: Slabs, name: str, odd: bool | None) -> Slabs:
        """A random function of one element: odd, even (False) or neither (None)."""

    def words(self, a: Slabs, name: str) -> Words:
        """A hash of each element, the same for equal elements."""

    def spread(self, words: Words, name: str) -> Slabs:
        """An element for each hash."""


def broadcast(x: Slabs, shape: tuple[int, ...]) -> Slabs:
    """Repeats elements to a shape, as numpy does."""
    return tuple(np.broadcast_to(slab, shape) for slab in x)
