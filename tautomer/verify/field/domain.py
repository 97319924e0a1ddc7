"""The fields as domains of a graph: functions, maxima and selections of ring elements.

Which identities hold, and so are accepted: those of + - * /; exp(x + y) = exp(x) exp(y); sqrt(x y) =
sqrt(x) sqrt(y) and 1/sqrt(x) = rsqrt(x); |x y| = |x| |y|, and everything that follows from |x| = sign(x) x
with a multiplicative odd sign, such as relu(x) relu(-x) = 0, relu(4 x) = 4 relu(x) and relu(x) - relu(-x) =
x. sqrt(x)^2 = x holds at squares, which are half of all elements; a positive constant with a prime factor
above 13 may be no square. tanh, erf and sin are odd, cos is even, sigmoid(x) = (1 + tanh(x / 2)) / 2, and
nothing else is known of them, nor of log, floor, ceil and round. Of a row's maximum only that equal rows
have equal maxima. Other identities are false alarms; none of this accepts what is false for real numbers.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tautomer.graph.semantics.domain import Array, Axes, Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.field.arithmetic import rows_of
from tautomer.verify.field.functions import Functions
from tautomer.verify.field.jets import Jets
from tautomer.verify.field.mixing import hashed_rows, key
from tautomer.verify.field.pairs import Pairs
from tautomer.verify.field.primes import random_pair, random_prime
from tautomer.verify.field.ring import Ring
from tautomer.verify.field.value import Residues

_NUMBERS = Float64()


class Field(Functions):
    """A domain of ring elements.

    Args:
        ring: the ring.
        seed: all randomness follows from it.
        expand: compute tanh and sigmoid by exp instead of leaving them opaque.
        maxima: "free" draws the maximum of a row afresh in every graph (see `graph`), so that results which
            agree do not depend on it; "shared" draws it once per row, for graphs whose results contain it.

    Attributes:
        graph: the graph that is evaluated; the caller sets it before each.
    """

    def __init__(
        self, ring: Ring, seed: int, *, expand: bool = False, maxima: Literal["free", "shared"] = "free"
    ) -> None:
        super().__init__(ring, seed, expand=expand)
        self._maxima = maxima
        self.graph = ""

    def where(self, condition: Array, a: Any, b: Any) -> Residues:
        """a where the condition holds, else b."""
        return self.move(lambda x, y: np.where(condition, x, y), a, b)

    def maximum(self, a: Any, b: Any) -> Residues:
        """(x + y + |x - y|) / 2; the other where one is -inf."""
        x, y = self.lift(a), self.lift(b)
        if x.known is not None and y.known is not None:
            first = self.concrete(x) >= self.concrete(y)
            return self.where(first, x, y)
        plain = [self._unmarked(v) for v in (x, y)]
        result = (plain[0] + plain[1] + self.abs(plain[0] - plain[1])) * 0.5
        if x.low is not None:
            result = self.where(x.low, y, result)
        return result if y.low is None else self.where(y.low, x, result)

    def _unmarked(self, x: Residues) -> Residues:
        return x if x.low is None else Residues(x.slabs, self)

    def minimum(self, a: Any, b: Any) -> Residues:
        """-max(-x, -y)."""
        x, y = self.finite("Min", a), self.finite("Min", b)
        return -self.maximum(-x, -y)

    def compare(self, op: str, a: Any, b: Any) -> Array:
        """Of constants only: elements have no order."""
        x, y = self.lift(a), self.lift(b)
        if x.known is None or y.known is None:
            raise Unsupported("compare", "elements of a field have no order")
        return _NUMBERS.compare(op, self.concrete(x), self.concrete(y))

    def isnan(self, x: Any) -> Array:
        """False: nothing here is."""
        return np.zeros(self.shape(x), dtype=bool)

    def isinf(self, x: Any) -> Array:
        """Where x is -inf."""
        return self.lift(x).masked.copy()

    def amax(self, x: Any, axes: Axes, keepdims: bool) -> Residues:
        """A random element per row and graph; -inf for a row of nothing else."""
        a = self.lift(x)
        name = f"{self.seed} max {self.graph if self._maxima == 'free' else ''}"
        (words, low), shape = rows_of((self.ring.words(a.slabs, name), a.masked), axes, keepdims)
        if words.shape[-1] == 1:
            return self.move(lambda s: s.reshape(shape), a)
        slabs = self.ring.spread(hashed_rows(words, low if a.low is not None else None, name), name)
        return Residues(tuple(s.reshape(shape) for s in slabs), self, low.all(axis=-1).reshape(shape))

    def amin(self, x: Any, axes: Axes, keepdims: bool) -> Residues:
        """-max(-x)."""
        return -self.amax(-self.finite("ReduceMin", x), axes, keepdims)


class JetField(Field):
    """Jets of some order modulo a random prime.

    Args:
        seed: all randomness follows from it, the prime too.
        order: how many powers of t an exponential keeps; 4 tells apart what differs in its third derivative.
        options: those of `Field`.
    """

    def __init__(self, seed: int, order: int = 4, **options: Any) -> None:
        p = random_prime(np.random.default_rng(key(seed, "prime")))
        super().__init__(Jets(p, order), seed, **options)


class TwoPrime(Field):
    """Residues modulo two random primes.

    Args:
        seed: all randomness follows from it, the primes too.
        options: those of `Field`.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        rng = np.random.default_rng(key(seed, "primes"))
        p, q = random_pair(rng)
        super().__init__(Pairs(p, q, pow(int(rng.integers(2, p - 1)), 2, p)), seed, **options)
