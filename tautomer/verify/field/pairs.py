"""Pairs of residues modulo primes q and p = 2 q + 1, with exp(x) = w^(x mod q) modulo p.

w generates the squares modulo p, of which there are q, so w^(x + y) = w^x w^y holds exactly and exp has no
kernel but 0: unlike a truncated series it has no order beyond which it cannot see. The price is that an
exponential has no residue modulo q, so no exponential of one. Slabs are the residue modulo p and, as long
as there is one, modulo q.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from tautomer.graph.semantics.domain import Array, Axes, Unsupported
from tautomer.verify.field.mixing import hashed, key, mixed
from tautomer.verify.field.modular import Modulus, Words
from tautomer.verify.field.products import product
from tautomer.verify.field.ring import Slabs


class Pairs:
    """The ring of pairs.

    Args:
        p: a prime of `primes.random_pair`.
        q: the other.
        base: w, a square modulo p other than 0 and 1.
    """

    slabs = 2

    def __init__(self, p: int, q: int, base: int) -> None:
        self.moduli, self._base = (Modulus(p), Modulus(q)), base
        self.name = f"residues modulo {p} and {q}"

    def common(self, xs: Sequence[Slabs]) -> list[Slabs]:
        """Without residues modulo q where one has none."""
        least = min(len(x) for x in xs)
        return [x[:least] for x in xs]

    def each(self, f: Callable[[int], Words]) -> Slabs:
        """A number whose residue modulo each prime is given."""
        return tuple(f(modulus.p) for modulus in self.moduli)

    def integers(self, x: Array) -> Slabs:
        """Whole numbers."""
        return tuple(modulus.integers(x) for modulus in self.moduli)

    def floats(self, x: Array) -> Slabs:
        """Finite numbers, exactly."""
        return tuple(modulus.floats(x) for modulus in self.moduli)

    def fraction(self, x: Fraction) -> Slabs:
        """A rational number."""
        return tuple(np.asarray(modulus.fraction(x), dtype=np.uint64) for modulus in self.moduli)

    def add(self, a: Slabs, b: Slabs) -> Slabs:
        """a + b."""
        return tuple(m.add(x, y) for m, x, y in zip(self.moduli, a, b, strict=False))

    def sub(self, a: Slabs, b: Slabs) -> Slabs:
        """a - b."""
        return tuple(m.sub(x, y) for m, x, y in zip(self.moduli, a, b, strict=False))

    def neg(self, a: Slabs) -> Slabs:
        """-a."""
        return self._mapped(Modulus.neg, a)

    def mul(self, a: Slabs, b: Slabs) -> Slabs:
        """a b."""
        return tuple(m.mul(x, y) for m, x, y in zip(self.moduli, a, b, strict=False))

    def matmul(self, a: Slabs, b: Slabs) -> Slabs:
        """The matrix product modulo each prime."""
        return tuple(product(m, [(x, y)]) for m, x, y in zip(self.moduli, a, b, strict=False))

    def sum(self, a: Slabs, axes: Axes, keepdims: bool) -> Slabs:
        """The sum over axes."""
        return self._mapped(
            lambda m, x: np.asarray(
                np.sum(x, axis=axes, keepdims=keepdims, dtype=np.uint64) % np.uint64(m.p)
            ),
            a,
        )

    def _mapped(self, f: Callable[[Modulus, Words], Words], a: Slabs) -> Slabs:
        return tuple(f(modulus, x) for modulus, x in zip(self.moduli, a, strict=False))

    def inverse(self, a: Slabs) -> Slabs:
        """1 / a."""
        return self._mapped(Modulus.inverse, a)

    def exp(self, a: Slabs) -> Slabs:
        """w^a modulo p.

        Raises:
            Unsupported: a comes from an exponential itself.
        """
        if len(a) == 1:
            raise Unsupported("exp", "nested exp")
        return (self.moduli[0].exponential(self._base, a[1]),)

    def sqrt(self, a: Slabs) -> Slabs:
        """The root modulo each prime."""
        return self._mapped(Modulus.sqrt, a)

    def sign(self, a: Slabs) -> Slabs:
        """The Legendre symbol modulo p, for both residues."""
        p, sign = self.moduli[0].p, self.moduli[0].sign(a[0])
        return tuple(
            np.where(sign == np.uint64(p - 1), np.uint64(m.p - 1), sign)
            for m, _ in zip(self.moduli, a, strict=False)
        )

    def opaque(self, a: Slabs, name: str, odd: bool | None) -> Slabs:
        """A hash of each residue, for odd and even functions of the smaller of a and -a."""
        out = []
        for i, (m, x) in enumerate(zip(self.moduli, a, strict=False)):
            negative = np.asarray(x > np.uint64(m.p // 2)) & (odd is not None)
            value = hashed([np.where(negative, m.neg(x), x)], 1, f"{name}/{i}") % np.uint64(m.p)
            if odd:
                value = np.where(x == 0, np.uint64(0), np.where(negative, m.neg(value), value))
            out.append(np.asarray(value))
        return tuple(out)

    def words(self, a: Slabs, name: str) -> Words:
        """A hash of the residue modulo p, which every element has."""
        return hashed(a[:1], 1, name)

    def spread(self, words: Words, name: str) -> Slabs:
        """Residues modulo both primes for each hash."""
        return tuple(
            np.asarray(mixed(words ^ np.uint64(key(name, i))) % np.uint64(m.p))
            for i, m in enumerate(self.moduli)
        )
