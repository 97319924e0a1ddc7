"""Jets: polynomials in t modulo t^k with coefficients modulo p, and exp(x) = e^(t x).

e^(t (x + y)) = e^(t x) e^(t y) holds exactly and at any depth of nesting, so an exponential may stand inside
another. The base of the exponential is unknown: no polynomial in x equals it, unless the two agree up to
t^(k-1), which is what the order k decides. Slabs are coefficients; trailing zeros are left out, so that what
comes before the first exponential costs one slab.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from tautomer.graph.semantics.domain import Array, Axes
from tautomer.verify.field.mixing import hashed
from tautomer.verify.field.modular import Modulus, Words, ZeroDivisorError
from tautomer.verify.field.products import product
from tautomer.verify.field.ring import Slabs


class Jets:
    """The ring of jets.

    Args:
        p: a prime of `primes.random_prime`.
        order: k, how many coefficients are kept.
    """

    def __init__(self, p: int, order: int) -> None:
        if order < 2:
            raise ValueError("jets below order 2 have no exponential")
        self.base, self.slabs = Modulus(p), order
        self.name = f"jets of order {order} modulo {p}"

    def common(self, xs: Sequence[Slabs]) -> list[Slabs]:
        """With zero coefficients put in."""
        most = max(len(x) for x in xs)
        return [x + tuple(np.zeros_like(x[0]) for _ in range(most - len(x))) for x in xs]

    def each(self, f: Callable[[int], Words]) -> Slabs:
        """A number whose residue modulo p is given."""
        return (f(self.base.p),)

    def integers(self, x: Array) -> Slabs:
        """Whole numbers."""
        return (self.base.integers(x),)

    def floats(self, x: Array) -> Slabs:
        """Finite numbers, exactly."""
        return (self.base.floats(x),)

    def fraction(self, x: Fraction) -> Slabs:
        """A rational number."""
        return (np.asarray(self.base.fraction(x), dtype=np.uint64),)

    def add(self, a: Slabs, b: Slabs) -> Slabs:
        """a + b."""
        return self._paired(self.base.add, a, b)

    def sub(self, a: Slabs, b: Slabs) -> Slabs:
        """a - b."""
        return self._paired(self.base.sub, a, b)

    def _paired(self, f: Callable[[Words, Words], Words], a: Slabs, b: Slabs) -> Slabs:
        zero = np.zeros(np.broadcast_shapes(a[0].shape, b[0].shape), dtype=np.uint64)
        return tuple(
            f(a[i] if i < len(a) else zero, b[i] if i < len(b) else zero) for i in range(max(len(a), len(b)))
        )

    def neg(self, a: Slabs) -> Slabs:
        """-a."""
        return tuple(self.base.neg(x) for x in a)

    def _terms(self, a: int, b: int, n: int) -> list[tuple[int, int]]:
        return [(i, n - i) for i in range(a) if 0 <= n - i < b]

    def mul(self, a: Slabs, b: Slabs) -> Slabs:
        """The coefficients of the product below t^k."""
        out = []
        for n in range(min(len(a) + len(b) - 1, self.slabs)):
            terms = [self.base.mul(a[i], b[j]) for i, j in self._terms(len(a), len(b), n)]
            out.append(terms[0] if len(terms) == 1 else np.asarray(sum(terms) % np.uint64(self.base.p)))
        return tuple(out)

    def matmul(self, a: Slabs, b: Slabs) -> Slabs:
        """The same with matrices as coefficients."""
        if len(b) == 1 and len(a) > 1:  # a stored matrix: the rows of all coefficients meet it at once
            return self._stacked(a, b[0])
        return tuple(
            product(self.base, [(a[i], b[j]) for i, j in self._terms(len(a), len(b), n)])
            for n in range(min(len(a) + len(b) - 1, self.slabs))
        )

    def _stacked(self, a: Slabs, b: Words) -> Slabs:
        rows = np.concatenate(a, axis=-2)
        return tuple(np.split(product(self.base, [(rows, b)]), len(a), axis=-2))

    def sum(self, a: Slabs, axes: Axes, keepdims: bool) -> Slabs:
        """The sum over axes."""
        word = np.uint64(self.base.p)
        return tuple(np.asarray(np.sum(x, axis=axes, keepdims=keepdims, dtype=np.uint64) % word) for x in a)

    def inverse(self, a: Slabs) -> Slabs:
        """b with b_0 = 1 / a_0 and b_n = -b_0 (a_1 b_(n-1) + ... + a_n b_0)."""
        base = self.base
        out = [base.inverse(a[0])]
        for n in range(1, self.slabs if len(a) > 1 else 1):
            total = self._convolved(a, out, 1, n)
            out.append(base.neg(base.mul(total, out[0])))
        return tuple(out)

    def _convolved(self, a: Slabs, b: Sequence[Words], first: int, n: int) -> Words:
        """a_first b_(n-first) + ... + a_n b_0, of those that there are."""
        total = np.zeros_like(b[0])
        for i in range(first, min(n, len(a) - 1) + 1):
            if n - i < len(b):
                total = self.base.add(total, self.base.mul(a[i], b[n - i]))
        return total

    def exp(self, a: Slabs) -> Slabs:
        """y = e^z with z = t a, from y' = z' y: n y_n = 1 z_1 y_(n-1) + ... + n z_n y_0."""
        base = self.base
        rates = (np.zeros_like(a[0]), *(base.scale(x, i + 1) for i, x in enumerate(a)))
        out: list[Words] = [np.ones_like(a[0])]
        for n in range(1, self.slabs):
            out.append(base.scale(self._convolved(rates, out, 1, n), pow(n, -1, base.p)))
        return tuple(out)

    def sqrt(self, a: Slabs) -> Slabs:
        """sqrt(a_0) w with w^2 = a / a_0 and w_0 = 1, so that roots of products are products of roots."""
        root = self.base.sqrt(a[0])
        if len(a) == 1:
            return (root,)
        if not np.all(a[0]):
            raise ZeroDivisorError("sqrt")
        unit = self.mul(a, (self.base.inverse(a[0]),))
        out: list[Words] = [np.ones_like(root)]
        half = (self.base.p + 1) // 2
        for n in range(1, self.slabs):
            known = self._convolved(tuple(out), out, 1, n)  # w_1 w_(n-1) + ... + w_(n-1) w_1
            rest = self.base.sub(unit[n], known) if n < len(unit) else self.base.neg(known)
            out.append(self.base.scale(rest, half))
        return self.mul(tuple(out), (root,))

    def sign(self, a: Slabs) -> Slabs:
        """The Legendre symbol of the first coefficient that is not 0."""
        return (self.base.sign(_leading(a)),)

    def opaque(self, a: Slabs, name: str, odd: bool | None) -> Slabs:
        """A hash of all coefficients; for odd and even functions of the one of a and -a with a small lead."""
        lead = _leading(a)
        negative = np.asarray(lead > np.uint64(self.base.p // 2)) & (odd is not None)
        size = tuple(np.where(negative, self.base.neg(x), x) for x in a)
        value = self.spread(self.words(size, name), name)[0]
        if odd:
            value = np.where(negative, self.base.neg(value), value)
            value = np.where(lead == 0, np.uint64(0), value)
        return (value,)

    def words(self, a: Slabs, name: str) -> Words:
        """A hash of all coefficients."""
        return hashed(a, self.slabs, name)

    def spread(self, words: Words, name: str) -> Slabs:
        """A number modulo p for each hash."""
        return (np.asarray(words % np.uint64(self.base.p)),)


def _leading(a: Slabs) -> Words:
    lead = a[-1]
    for x in reversed(a[:-1]):
        lead = np.where(x == 0, lead, x)
    return lead
