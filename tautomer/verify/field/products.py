"""Matrix products of residues: three float64 products of 16-bit limbs.

With a = a1 2^16 + a0 and b likewise, a b = a1 b1 2^32 + ((a1 + a0)(b1 + b0) - a1 b1 - a0 b0) 2^16 + a0 b0.
Sums of up to 2^19 such products stay below 2^53, so BLAS computes them without rounding.

A residue takes 8 bytes and its limbs, with their sum, 24, so a large matrix is cut a few columns at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tautomer.graph.semantics.domain import Array
from tautomer.verify.field.modular import Modulus, Words

_TERMS = 1 << 19  # (2^15 + 2^16)^2 * 2^19 < 2^53
_BLOCK = (
    1 << 22
)  # elements that are cut at once, 96 MB of limbs: many small products leave BLAS threads waiting
_COLUMNS = 64  # at least, so that BLAS is fast


class _Limbs(NamedTuple):
    """Matrices of residues cut in two, as float64.

    Attributes:
        high: the upper 15 bits.
        low: the lower 16 bits.
        both: their sum.
    """

    high: Array
    low: Array
    both: Array


def _split(x: Words) -> _Limbs:
    high = (x >> np.uint64(16)).astype(np.float64)
    low = (x & np.uint64(0xFFFF)).astype(np.float64)
    return _Limbs(high, low, high + low)


def product(modulus: Modulus, pairs: Sequence[tuple[Words, Words]]) -> Words:
    """The sum of the matrix products of some pairs [..., m, k] and [..., k, n], all of one shape."""
    a, b = pairs[0]
    if a.size > max(b.size, _BLOCK):  # the larger one is cut: a b = (b' a')'
        turned = [(y.swapaxes(-1, -2), x.swapaxes(-1, -2)) for x, y in pairs]
        return product(modulus, turned).swapaxes(-1, -2)
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    result = np.empty((*batch, rows, columns), np.uint64)
    most = max(_TERMS // len(pairs), 1)
    width = max(_BLOCK // max(math.prod(batch) * max(rows, min(inner, most)), 1), _COLUMNS)
    for start in range(0, inner, most) if inner else (0,):
        terms = slice(start, start + most)
        left = [_split(x[..., terms]) for x, _ in pairs]
        for column in range(0, columns, width):
            place = (..., slice(column, column + width))
            right = [y[..., terms, place[1]] for _, y in pairs]
            part = _exact(modulus, zip(left, right, strict=True))
            result[place] = modulus.add(result[place], part) if start else part
    return result


def _exact(modulus: Modulus, pairs: Iterable[tuple[_Limbs, Words]]) -> Words:
    """The same of at most 2^19 terms."""
    high: Array | float = 0.0
    low: Array | float = 0.0
    middle: Array | float = 0.0
    for a, b in pairs:
        right = _split(b)
        high = high + a.high @ right.high
        low = low + a.low @ right.low
        middle = middle + a.both @ right.both
    middle = middle - high - low
    word = np.uint64(modulus.p)
    total = np.asarray(high).astype(np.uint64) % word
    total *= np.uint64((1 << 32) % modulus.p)  # below 2^62
    total += (np.asarray(middle).astype(np.uint64) % word) << np.uint64(16)  # below 2^47
    total += np.asarray(low).astype(np.uint64)
    return np.asarray(total % word)
