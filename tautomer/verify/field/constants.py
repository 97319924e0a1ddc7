"""What enters a field: stored numbers, exactly or as what they are roundings of; random ones."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tautomer.graph.semantics.domain import Array, Unsupported
from tautomer.verify.blocks import blocks
from tautomer.verify.field.mixing import key
from tautomer.verify.field.numbers import Reader
from tautomer.verify.field.ring import Ring, broadcast
from tautomer.verify.field.value import Operations, Residues


class Constants(Operations):
    """Makes tensors of concrete arrays and tells what is known of them.

    Args:
        ring: the ring of the elements.
        seed: all randomness follows from it and from names.
    """

    def __init__(self, ring: Ring, seed: int) -> None:
        self.ring, self.seed = ring, seed
        self._reader = Reader()
        self._scalars: dict[float, Residues] = {}

    @property
    def assumptions(self) -> list[str]:
        """The constants that were read as the numbers they are roundings of."""
        return self._reader.assumptions

    def constant(self, x: Any) -> Residues:
        """The numbers themselves; a lone scalar is the number that it is a rounding of, if there is one."""
        number = self._reader.read(x)
        if number is None:
            return self.exact(np.asarray(x))
        slabs = number.evaluate(_Elements(self)).slabs
        return Residues(broadcast(slabs, np.shape(x)), self, known=np.asarray(x))

    def exact(self, array: Array) -> Residues:
        """The numbers themselves.

        Raises:
            Unsupported: nan or +inf is among them.
        """
        if array.dtype.kind in "bui":
            return Residues(self.ring.integers(array), self, known=array)
        if all(np.isfinite(block).all() for block in blocks(array)):
            return Residues(self.ring.floats(array), self, known=array)
        numbers = array.astype(np.float64)
        low = np.isneginf(numbers)
        numbers = np.where(low, 0.0, numbers)
        if not np.isfinite(numbers).all():
            raise Unsupported("constant", "nan or infinity in a field")
        return Residues(self.ring.floats(numbers), self, low, known=array)

    def lift(self, x: Any) -> Residues:
        """A tensor as it is, a concrete array or number as a constant."""
        if isinstance(x, Residues):
            return x
        if not isinstance(x, float):
            return self.constant(x)
        if x not in self._scalars:
            self._scalars[x] = self.constant(x)
        return self._scalars[x]

    def input(self, x: Any) -> Residues:
        """The numbers themselves, of which nothing is known: what a graph is given, not what it stores.

        The sign of a constant is its own, that of anything computed is the Legendre symbol. An input must
        not have a sign of the first kind, or max(4 x, 0) were not 4 max(x, 0).
        """
        stored = self.exact(np.asarray(x))
        return Residues(stored.slabs, self, stored.low)

    def random(self, shape: tuple[int, ...], name: str) -> Residues:
        """Elements drawn uniformly, the same for the same seed and name."""
        rng = np.random.default_rng(key(self.seed, "input", name))
        return Residues(self.ring.each(lambda p: rng.integers(0, p, shape, dtype=np.uint64)), self)

    def is_value(self, x: Any) -> bool:
        """True for tensors of elements."""
        return isinstance(x, Residues)

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape."""
        return self.lift(x).shape

    def concrete(self, x: Any) -> Array:
        """The float64 numbers of a constant; an element is no number."""
        if (known := self.lift(x).known) is None:
            raise Unsupported("concrete", "an element of a field is no number")
        return known.astype(np.float64)


class _Elements:
    """The numbers that readings are made of, as elements."""

    def __init__(self, domain: Any) -> None:
        self._domain = domain

    def rational(self, x: Fraction) -> Residues:
        return Residues(self._domain.ring.fraction(x), self._domain)

    def sqrt(self, x: Residues) -> Residues:
        root: Residues = self._domain.sqrt(x)
        return root

    def named(self, name: str) -> Residues:
        """A random square, so that its sign is positive; but e is exp(1)."""
        if name == "e":
            number: Residues = self._domain.exp(self.rational(Fraction(1)))
            return number
        root: Residues = self._domain.random((), f"constant {name}")
        return root * root
