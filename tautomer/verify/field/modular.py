"""Arithmetic modulo one prime p < 2^31 on arrays: products of two residues fit 64 bits.

Floating point numbers are m * 2^e with whole m, so their residues are exact; quotients, roots and signs are
a^(p-2), a^((p+1)/4) and a^((p-1)/2).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tautomer.graph.semantics.domain import Array, Unsupported
from tautomer.verify.blocks import by_blocks

Words = NDArray[np.uint64]

_EXPONENTS = range(-1075, 972)  # of two, that a float64 with a whole mantissa has
_DIGIT = 10  # powers with an exponent per element go digit by digit, from tables


class ZeroDivisorError(Unsupported):
    """A divisor is 0 modulo the prime. If it is not 0 as a real number, another seed helps."""

    def __init__(self, op: str) -> None:
        super().__init__(op, "a divisor is zero modulo the prime")


class Modulus:
    """The field of p elements.

    Args:
        p: a prime below 2^31, 3 mod 4.
    """

    def __init__(self, p: int) -> None:
        self.p = p
        self._word = np.uint64(p)
        self._twos = np.array([pow(2, e, p) for e in _EXPONENTS], dtype=np.uint64)

    def add(self, a: Any, b: Any) -> Words:
        """a + b."""
        with np.errstate(over="ignore"):  # a difference below 0 wraps to a large word, which loses
            total = a + b
            return np.asarray(np.minimum(total, total - self._word))

    def sub(self, a: Any, b: Any) -> Words:
        """a - b."""
        with np.errstate(over="ignore"):
            difference = a - b
            return np.asarray(np.minimum(difference, difference + self._word))

    def neg(self, a: Any) -> Words:
        """-a."""
        return self.sub(np.uint64(0), a)

    def mul(self, a: Any, b: Any) -> Words:
        """a b."""
        return np.asarray((a * b) % self._word)

    def scale(self, a: Any, factor: int) -> Words:
        """a times a Python number."""
        return self.mul(a, np.uint64(factor % self.p))

    def power(self, a: Words, exponent: int) -> Words:
        """a^exponent for one exponent of 0 or more."""
        result = np.ones_like(a)
        for bit in bin(exponent)[2:]:
            result = self.mul(result, result)
            if bit == "1":
                result = self.mul(result, a)
        return result

    def exponential(self, base: int, exponents: Words) -> Words:
        """base^exponent for an exponent below 2^30 per element."""
        result = np.ones_like(exponents)
        for shift in range(0, 30, _DIGIT):
            step, table = pow(base, 1 << shift, self.p), [1]
            for _ in range((1 << _DIGIT) - 1):
                table.append(table[-1] * step % self.p)
            digits = (exponents >> np.uint64(shift)) & np.uint64((1 << _DIGIT) - 1)
            result = self.mul(result, np.array(table, dtype=np.uint64)[digits])
        return result

    def inverse(self, a: Words) -> Words:
        """1 / a: one power for all, and a tree of products of pairs.

        Raises:
            ZeroDivisorError: an element is 0.
        """
        if not np.all(a):
            raise ZeroDivisorError("division")
        levels = [a.reshape(-1)]
        while len(levels[-1]) > 1:
            x = levels[-1]
            if len(x) % 2:
                x = levels[-1] = np.append(x, np.uint64(1))
            levels.append(self.mul(x[0::2], x[1::2]))
        up = np.array([pow(int(x), -1, self.p) for x in levels[-1]], dtype=np.uint64)
        for x in reversed(levels[:-1]):
            down, up = np.empty_like(x), up[: len(x) // 2]
            down[0::2], down[1::2] = self.mul(up, x[1::2]), self.mul(up, x[0::2])
            up = down
        return up[: a.size].reshape(a.shape)

    def sqrt(self, a: Words) -> Words:
        """a^((p+1)/4): multiplicative, itself a square, and a root of a or of -a."""
        return self.power(a, (self.p + 1) // 4)

    def sign(self, a: Words) -> Words:
        """The Legendre symbol as a residue: 1, p - 1 or 0; multiplicative."""
        return self.power(a, (self.p - 1) // 2)

    def floats(self, x: Array) -> Words:
        """The residues of finite numbers, from their bits as float64: (-1)^s m 2^(e - 1075)."""
        return by_blocks(self._of_float64, x, read=np.float64, gives=np.uint64)

    def _of_float64(self, x: Array) -> Words:
        bits = x.view(np.uint64)
        biased = (bits >> np.uint64(52)) & np.uint64(0x7FF)
        whole = bits & np.uint64((1 << 52) - 1)
        whole |= np.minimum(biased, np.uint64(1)) << np.uint64(52)  # subnormal numbers have no leading one
        whole %= self._word
        whole *= self._twos[np.maximum(biased, np.uint64(1)).view(np.int64)]
        whole %= self._word
        return np.where(bits >> np.uint64(63) != 0, self.neg(whole), whole)

    def integers(self, x: Array) -> Words:
        """The residues of whole numbers."""
        if x.dtype.kind == "u":
            return np.asarray(x.astype(np.uint64) % self._word)
        return np.asarray((x.astype(np.int64) % self.p).astype(np.uint64))

    def fraction(self, x: Fraction) -> int:
        """The residue of a rational number.

        Raises:
            ZeroDivisorError: its denominator is 0 modulo the prime.
        """
        if x.denominator % self.p == 0:
            raise ZeroDivisorError("constant")
        return x.numerator * pow(x.denominator, -1, self.p) % self.p
