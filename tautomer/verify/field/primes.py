"""Random primes p in [2^30, 2^31), p = 3 mod 4, with 2, 3, 5, 7, 11 and 13 squares mod p.

p = 3 mod 4 gives the root a^((p+1)/4) and makes -1 a non-square, so that the Legendre symbol can stand for
a sign. Small primes that are squares make the roots of all numbers built from them true roots.
"""

from __future__ import annotations

import numpy as np

_SMALL = (2, 3, 5, 7, 11, 13)
_BASES = (2, 3, 5, 7)  # decide primality below 3.2e9


def is_prime(n: int) -> bool:
    """The Miller-Rabin test, exact below 2^31."""
    if n < 2 or any(n % r == 0 for r in _SMALL):
        return n in _SMALL
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    for base in _BASES:
        x = pow(base, (n - 1) >> twos, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def _friendly(p: int) -> bool:
    """True when, were p prime, every small prime would be a square: by reciprocity, for p = 7 mod 8."""
    for r in _SMALL[1:]:
        residue = pow(p, (r - 1) // 2, r)
        if residue != (1 if r % 4 == 1 else r - 1):
            return False
    return True


def random_prime(rng: np.random.Generator) -> int:
    """A random prime p as above."""
    while True:
        p = int(rng.integers(1 << 27, 1 << 28)) * 8 + 7
        if _friendly(p) and is_prime(p):
            return p


def random_pair(rng: np.random.Generator) -> tuple[int, int]:
    """Random primes p = 2 q + 1 and q, both as above but for q in [2^29, 2^30)."""
    while True:
        for q in (rng.integers(1 << 26, 1 << 27, size=4096) * 8 + 7).tolist():
            if _friendly(q) and _friendly(2 * q + 1) and is_prime(q) and is_prime(2 * q + 1):
                return 2 * q + 1, q
