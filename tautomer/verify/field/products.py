"""Matrix products of residues: three float64 products of 16-bit limbs.

With a = a1 2^16 + a0 and b likewise, a b = a1 b1 2^32 + ((a1 + a0)(b1 + b0) - a1 b1 - a0 b0) 2^16 + a0 b0.
Sums of up to 2^19 such products stay below 2^53, so BLAS computes them without rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tautomer.graph.semantics.domain import Array
from tautomer.verify.field.modular import Modulus, Words

_TERMS = 1 << 19  # (2^15 + 2^16)^2 * 2^19 < 2^53


class Limbs(NamedTuple):
    """A matrix of residues cut in two, as float64.

    Attributes:
        high: the upper 15 bits.
        low: the lower 16 bits.
    """

    high: Array
    low: Array


def split(x: Words) -> Limbs:
    """Cuts residues into limbs."""
    return Limbs((x >> np.uint64(16)).astype(np.float64), (x & np.uint64(0xFFFF)).astype(np.float64))


def product(modulus: Modulus, pairs: list[tuple[Limbs, Limbs]]) -> Words:
    """The sum of the matrix products of some pairs, all of one shape."""
    inner = pairs[0][0].high.shape[-1]
    piece = max(_TERMS // len(pairs), 1)
    total: Words | None = None
    for begin in range(0, max(inner, 1), piece):
        part = _exact(modulus, pairs, begin, begin + piece)
        total = part if total is None else modulus.add(total, part)
    assert total is not None
    return total


def _exact(modulus: Modulus, pairs: list[tuple[Limbs, Limbs]], begin: int, end: int) -> Words:
    high: Array | float = 0.0
    low: Array | float = 0.0
    both: Array | float = 0.0
    for a, b in pairs:
        ah, al, bh, bl = a.high, a.low, b.high, b.low
        if end - begin < ah.shape[-1]:
            ah, al, bh, bl = (
                ah[..., begin:end],
                al[..., begin:end],
                bh[..., begin:end, :],
                bl[..., begin:end, :],
            )
        high = high + ah @ bh
        low = low + al @ bl
        both = both + (ah + al) @ (bh + bl)
    middle = (both - high - low).astype(np.uint64) % np.uint64(modulus.p)  # type: ignore[union-attr]
    upper = np.asarray(high).astype(np.uint64) % np.uint64(modulus.p)
    upper *= np.uint64((1 << 32) % modulus.p)  # below 2^62
    middle *= np.uint64(1 << 16)  # below 2^47
    upper += middle
    upper += np.asarray(low).astype(np.uint64)
    return upper % np.uint64(modulus.p)
