"""The two matrix products of a tile of queries and a block of keys, as C++ text.

A tile is R queries; it is as many registers as an instruction set has, less those that operands take. Scores
of a tile lie in panels of WIDTH keys, [panel][R][WIDTH], each of them what one run through the head dimension
leaves in registers.

The weights of a tile are made while the next tile's scores are: a multiply-add waits for its operands, and an
exponential needs other units. A processor does not look that far ahead by itself, so the vectors of the
earlier tile are handed out among the steps of the later one's product.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

# Vectors of keys or values in a register tile of ROWS queries: of 16 registers, 12 accumulate; of 32, 24.
_VECTORS = {"avx512": 4}
ROWS = 6
KEYS = 64
"""Keys of a block: a multiple of every tile's width, and as much of K and V as the first cache holds."""

_PRODUCT = """\
constexpr int VECTORS = {vectors}, WIDTH = VECTORS * LANES, KEYS = {keys};

// c[r][n] += sum over k of a[k][r] * b[k][n]
template <int R, int N, int ROW_STEP, int STEP>
INLINE void product(const float*& a, const float*& b, int64_t depth, V (&c)[R][N]) {{
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
// scores[panel] = start + q k^T for some panels, while the weights of as many panels of an earlier tile are
// made
template <int R, class Weights>
NOINLINE void scores_of(const float* q, const float* k, int64_t depth, float start, float* scores, int panels,
                        Weights* weights) {
  const int64_t chunk = depth / (R * VECTORS);
  for (int p = 0; p < panels; ++p, scores += R * WIDTH) {
    V c[R][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int n = 0; n < VECTORS; ++n) c[r][n] = all(start);
    const float* a = q;
    int64_t left = depth;
    if (weights && weights->panels) {
      for (int r = 0; r < R; ++r)
        for (int n = 0; n < VECTORS; ++n) {
          weights->make(r, n);
          product<R, VECTORS, 1, R>(a, k, chunk, c);
        }
      weights->next_panel();
      left -= chunk * R * VECTORS;
    }
    product<R, VECTORS, 1, R>(a, k, left, c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int n = 0; n < VECTORS; ++n) *(V*)(scores + r * WIDTH + n * LANES) = c[r][n];
  }
}

// result[r] += weights[r] v, for N vectors of v's columns; v is [keys][N * LANES]
template <int R, int N>
NOINLINE void add_values(const float* weights, const float* v, int panels, float* result, int64_t stride) {
  V c[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) c[r][n] = *(const V*)(result + r * stride + n * LANES);
  for (int p = 0; p < panels; ++p) {
    const float* a = weights + p * R * WIDTH;
    product<R, N, WIDTH, 1>(a, v, WIDTH, c);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) *(V*)(result + r * stride + n * LANES) = c[r][n];
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
