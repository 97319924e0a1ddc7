"""What the algorithms for Softmax share beside the exponential, as C++ text."""

from __future__ import annotations

from tautomer.codegen.isa import Isa

# What compilers make of the choice takes two instructions; that of the instruction set is the same choice, b
# where the two do not compare.
_GREATER = {
    "avx512": "INLINE V greater(V a, V b) { return (V)_mm512_max_ps((__m512)a, (__m512)b); }\n",
    "avx2": "INLINE V greater(V a, V b) { return (V)_mm256_max_ps((__m256)a, (__m256)b); }\n",
}
_GREATER_PLAIN = "INLINE V greater(V a, V b) { return a > b ? a : b; }\n"

# How far ahead of the arithmetic a row is asked for: as much as arrives while two blocks are computed.
SOON = "constexpr int64_t SOON = 8 << 10;  // bytes"

_ANY = {
    "avx512": "INLINE bool any(I mask) { return _mm512_movepi32_mask((__m512i)mask) != 0; }\n",
    "avx2": "INLINE bool any(I mask) { return _mm256_movemask_ps((__m256)mask) != 0; }\n",
}
_ANY_PLAIN = """\
INLINE bool any(I mask) {
  int64_t halves[LANES / 2], some = 0;
  std::memcpy(halves, &mask, sizeof mask);
  for (int i = 0; i < LANES / 2; ++i) some |= halves[i];
  return some != 0;
}
"""


def greater(isa: Isa) -> str:
    """greater(a, b): a where a > b, b elsewhere, so NaN if b is NaN."""
    return _GREATER.get(isa.name, _GREATER_PLAIN)


def any_lane(isa: Isa) -> str:
    """any(mask): whether a comparison holds in some lane."""
    return _ANY.get(isa.name, _ANY_PLAIN)
