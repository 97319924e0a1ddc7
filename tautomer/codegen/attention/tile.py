"""The two matrix products of a tile of queries and a block of keys, as C++ text.

A tile is R queries; its accumulators are as many registers as an instruction set has, less those that
operands take. Scores of a tile are [R][KEYS]; what one run through the head dimension leaves in registers is
a panel of WIDTH keys.

Rounding: products are summed from 0 in registers, and what they belong to is added last. A sum over N keys
then rounds KEYS + N / KEYS times in a row and not N times, and no step of a score rounds in units of a large
bias. Scores are scaled behind their sum, as where they are stored: mostly they are then rounded alike.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

# Vectors of keys or values in a register tile of ROWS queries: of 16 registers, 12 accumulate; of 32, 24.
_VECTORS = {"avx512": 4}
ROWS = 6
KEYS = 128
"""Keys of a block: a multiple of every tile's width; K and V of it are to stay in the second cache."""

_PRODUCT = """\
constexpr int VECTORS = {vectors}, WIDTH = VECTORS * LANES, KEYS = {keys};

// c[r][n] += sum over k of a[k][r] * b[k][n]
template <int R, int N, int ROW_STEP, int STEP>
INLINE void product(const float*& a, const float*& b, int64_t depth, V (&c)[R][N]) {{
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k, a += STEP, b += N * LANES) {{
    V columns[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) columns[n] = *(const V*)(b + n * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {{
      const V x = all(a[r * ROW_STEP]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) c[r][n] += x * columns[n];
    }}
  }}
}}
"""

_TILE = """\
// scores[panel] = start + scale * q k^T
template <int R>
NOINLINE void scores_of(const float* q, const float* k, int64_t depth, float start, float scale,
                        float* scores, int panels) {
  for (int p = 0; p < panels; ++p, scores += WIDTH) {
    V c[R][VECTORS] = {};
    const float* a = q;
    product<R, VECTORS, 1, R>(a, k, depth, c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int n = 0; n < VECTORS; ++n)
        *(V*)(scores + r * KEYS + n * LANES) = c[r][n] * scale + all(start);
  }
}

// result[r] += weights[r] v, for N vectors of v's columns; v is [keys][N * LANES]
template <int R, int N>
NOINLINE void add_values(const float* weights, const float* v, int panels, float* result, int64_t stride) {
  V c[R][N] = {};
  product<R, N, KEYS, 1>(weights, v, panels * WIDTH, c);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) *(V*)(result + r * stride + n * LANES) += c[r][n];
}

// all columns of v: panels of VECTORS vectors, and one of those that are left
template <int R>
INLINE void add_all_values(const float* weights, const float* v, int panels, float* result, int64_t vectors) {
  const int64_t stride = vectors * LANES;
  for (; vectors >= VECTORS; vectors -= VECTORS, v += KEYS * WIDTH, result += WIDTH)
    add_values<R, VECTORS>(weights, v, panels, result, stride);
  if (vectors == 1) add_values<R, 1>(weights, v, panels, result, stride);
  if constexpr (VECTORS > 2) {
    if (vectors == 2) add_values<R, 2>(weights, v, panels, result, stride);
    if (vectors == 3) add_values<R, 3>(weights, v, panels, result, stride);
  }
}
"""


def tile_text(isa: Isa) -> str:
    """The products."""
    noinline = "#define NOINLINE __attribute__((noinline))\n"
    vectors = _VECTORS.get(isa.name, 2)
    return noinline + _PRODUCT.format(vectors=vectors, keys=KEYS) + "\n" + _TILE
