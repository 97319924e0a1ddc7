"""Functions of one ring element: what stands for exp, sqrt, |x| and powers, and what is opaque."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.semantics.domain import Array, Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.field.arithmetic import Arithmetic
from tautomer.verify.field.ring import Ring
from tautomer.verify.field.value import Residues

_LARGEST_POWER = 64
_NUMBERS = Float64()


class Functions(Arithmetic):
    """A field with functions.

    Args:
        ring: the ring.
        seed: all randomness follows from it.
        expand: compute tanh and sigmoid by exp instead of leaving them opaque.

    Attributes:
        roots: how many square roots were taken.
        squares: of how many the argument was a square modulo every prime, so that the root is a true one.
    """

    def __init__(self, ring: Ring, seed: int, *, expand: bool = False) -> None:
        super().__init__(ring, seed)
        self._expand = expand
        self.roots = self.squares = 0

    def exp(self, x: Any) -> Residues:
        """The exponential; 0 for -inf."""
        a = self.lift(x)
        return Residues(self._zeroed(self.ring.exp(a.slabs), a), self)

    def _zeroed(self, slabs: tuple[Array, ...], a: Residues) -> tuple[Array, ...]:
        return slabs if a.low is None else tuple(np.where(a.low, np.uint64(0), s) for s in slabs)

    def expm1(self, x: Any) -> Residues:
        """e^x - 1."""
        return self.exp(x) - 1

    def sqrt(self, x: Any) -> Residues:
        """A multiplicative root."""
        a = self.finite("Sqrt", x)
        root = self.ring.sqrt(a.slabs)
        self.roots += root[0].size
        true = np.ones(a.shape, dtype=bool)
        for x, y in zip(self.ring.mul(root, root), a.slabs, strict=False):
            true &= x == y
        self.squares += int(true.sum())
        return Residues(root, self)

    def reciprocal(self, x: Any) -> Residues:
        """1 / x."""
        return 1 / self.finite("Reciprocal", x)

    def rsqrt(self, x: Any) -> Residues:
        """1 / sqrt(x)."""
        return self.reciprocal(self.sqrt(x))

    def _opaque(self, name: str, x: Any, odd: bool | None = None) -> Residues:
        a = self.finite(name, x)
        return Residues(self.ring.opaque(a.slabs, f"{self.seed} {name}", odd), self)

    def log(self, x: Any) -> Residues:
        """Opaque."""
        return self._opaque("Log", x)

    def log1p(self, x: Any) -> Residues:
        """log(1 + x)."""
        return self.log(self.lift(x) + 1)

    def erf(self, x: Any) -> Residues:
        """Opaque and odd."""
        return self._opaque("Erf", x, odd=True)

    def tanh(self, x: Any) -> Residues:
        """1 - 2 / (e^2x + 1), or opaque and odd."""
        return 1 - 2 / (self.exp(self.lift(x) * 2) + 1) if self._expand else self._opaque("Tanh", x, odd=True)

    def sigmoid(self, x: Any) -> Residues:
        """1 / (1 + e^-x), or by an opaque tanh."""
        if self._expand:
            return 1 / (self.exp(-self.lift(x)) + 1)
        return (self.tanh(self.lift(x) * 0.5) + 1) * 0.5

    def sin(self, x: Any) -> Residues:
        """Opaque and odd."""
        return self._opaque("Sin", x, odd=True)

    def cos(self, x: Any) -> Residues:
        """Opaque and even."""
        return self._opaque("Cos", x, odd=False)

    def acos(self, x: Any) -> Residues:
        """Opaque."""
        return self._opaque("Acos", x)

    def atan(self, x: Any) -> Residues:
        """Opaque and odd."""
        return self._opaque("Atan", x, odd=True)

    def floor(self, x: Any) -> Residues:
        """Opaque, but of constants."""
        return self._rounded("floor", x)

    def ceil(self, x: Any) -> Residues:
        """Opaque, but of constants."""
        return self._rounded("ceil", x)

    def round(self, x: Any) -> Residues:
        """Opaque, but of constants."""
        return self._rounded("round", x)

    def _rounded(self, name: str, x: Any) -> Residues:
        a = self.finite(name, x)
        return (
            self._opaque(name, a)
            if a.known is None
            else self.exact(getattr(_NUMBERS, name)(self.concrete(a)))
        )

    def sign(self, x: Any) -> Residues:
        """A multiplicative odd sign."""
        a = self.finite("Sign", x)
        return (
            Residues(self.ring.sign(a.slabs), self)
            if a.known is None
            else self.exact(np.sign(self.concrete(a)))
        )

    def abs(self, x: Any) -> Residues:
        """sign(x) x."""
        a = self.finite("Abs", x)
        return self.sign(a) * a

    def power(self, x: Any, y: Any) -> Residues:
        """x^y for one constant y that is a multiple of 1/2, and 2^y = e^(y ln 2).

        Raises:
            Unsupported: any other power.
        """
        a, b = self.lift(x), self.lift(y)
        exponents = None if b.known is None else np.unique(self.concrete(b))
        if (
            exponents is None
            or len(exponents) != 1
            or abs(exponents[0]) > _LARGEST_POWER
            or exponents[0] * 2 % 1
        ):
            if a.known is not None and np.all(a.known == 2):
                return self.exp(b * float(np.log(2.0)))
            raise Unsupported("Pow", "a power that is no constant multiple of 1/2")
        whole, half = divmod(abs(float(exponents[0])), 1.0)
        result = self.sqrt(a) if half else self.exact(np.ones(a.shape))
        for _ in range(int(whole)):
            result = result * a
        return self.move(
            lambda s, _: s, self.reciprocal(result) if exponents[0] < 0 else result, b * 0 + result
        )
