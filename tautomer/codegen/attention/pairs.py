"""The products of attention by dot products of pairs of bfloat16, as C++ text.

    c + a[0] b[0] + a[1] b[1], summed in float32, is one instruction where the instruction set has it

Scores sum over pairs of channels, results over pairs of keys. A pair has 32 bits, so that pairs lie as the
numbers of `pack` do:

    q [tile][d / 2][R]    k [panel][d / 2][WIDTH]    v [panel of columns][KEYS / 2][columns]

Weights are rounded to bfloat16, their sums are not.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

_DOT = {
    "avx512": "(V)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b)",
    # elsewhere, for tests: what the instruction computes, but for its rounding
    "": "c + (V)(a << 16) * (V)(b << 16) + (V)(a & 0xffff0000u) * (V)(b & 0xffff0000u)",
}

_ROUND = {"avx512": "*(Anywhere*)p = (Stored)_mm512_cvtneps_pbh((__m512)v)", "": "store(p, v)"}

_PAIRS = """\
typedef uint32_t Pair __attribute__((may_alias));
typedef uint32_t Pairs __attribute__((vector_size(4 * LANES), may_alias));
typedef Pairs PairsAnywhere __attribute__((aligned(1)));
INLINE V dot(V c, U a, U b) { return DOT; }
INLINE void store_rounded(S* p, V v) { ROUND; }

// c[r][n] += sum over k of a[k][r] . b[k][n]
template <int R, int N, int ROW_STEP, int STEP>
INLINE void dot_products(const Pair* a, const Pair* b, int64_t depth, V (&c)[R][N]) {
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k, a += STEP, b += N * LANES) {
    U columns[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) columns[n] = *(const Pairs*)(b + n * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const U x = U{} + a[r * ROW_STEP];
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) c[r][n] = dot(c[r][n], x, columns[n]);
    }
  }
}

// scores[panel] = start + scale * q k^T
template <int R>
NOINLINE void scores_of_pairs(const float* q, const float* k, int64_t depth, float start, float scale,
                              float* scores, int panels) {
  const int64_t half = (depth + 1) / 2;
  for (int p = 0; p < panels; ++p, scores += WIDTH) {
    V c[R][VECTORS] = {};
    dot_products<R, VECTORS, 1, R>((const Pair*)q, (const Pair*)k + p * half * WIDTH, half, c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int n = 0; n < VECTORS; ++n)
        *(Aligned*)(scores + r * KEYS + n * LANES) = c[r][n] * scale + all(start);
  }
}

// result[r] += weights[r] v, for N vectors of v's columns
template <int R, int N>
NOINLINE void add_values_of_pairs(const float* weights, const float* v, int panels, float* result,
                                  int64_t stride) {
  V c[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) c[r][n] = *(const Aligned*)(result + r * stride + n * LANES);
  dot_products<R, N, KEYS, 1>((const Pair*)weights, (const Pair*)v, panels * WIDTH / 2, c);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) *(Aligned*)(result + r * stride + n * LANES) = c[r][n];
}

// Rounds weights in their place: each row is then half as long.
template <int R>
NOINLINE void round_weights(float* weights, int panels) {
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < panels * WIDTH; n += LANES)
      store_rounded((S*)(weights + r * KEYS) + n, *(const Aligned*)(weights + r * KEYS + n));
}

template <int R>
INLINE void add_all_values_of_pairs(float* weights, const float* v, int panels, float* result,
                                    int64_t vectors) {
  round_weights<R>(weights, panels);
  const int64_t stride = vectors * LANES;
  for (; vectors >= VECTORS; vectors -= VECTORS, v += KEYS / 2 * WIDTH, result += WIDTH)
    add_values_of_pairs<R, VECTORS>(weights, v, panels, result, stride);
  if (vectors == 1) add_values_of_pairs<R, 1>(weights, v, panels, result, stride);
  if constexpr (VECTORS > 2) {
    if (vectors == 2) add_values_of_pairs<R, 2>(weights, v, panels, result, stride);
    if (vectors == 3) add_values_of_pairs<R, 3>(weights, v, panels, result, stride);
  }
}

// two numbers, of which the second may not be there
INLINE uint32_t pair(const S* first, const S* second) {
  return (uint32_t)*first | (second ? (uint32_t)*second << 16 : 0u);
}

INLINE void pack_key_pairs(const S* k, int64_t row_step, int64_t step, int64_t count, int64_t depth,
                           float* to_floats) {
  const int64_t half = (depth + 1) / 2;
  Pair* to = (Pair*)to_floats;
  for (int64_t first = 0; first < count; first += WIDTH, to += WIDTH * half) {
    int64_t i = 0;
    if (step == 1)
      for (; 2 * (i + LANES) <= depth; i += LANES)
        for (int n = 0; n < WIDTH; n += LANES) {
          V square[LANES];
          for (int r = 0; r < LANES; ++r) {
            const int64_t row = first + n + r;
            square[r] = row < count ? (V) * (const PairsAnywhere*)(k + row * row_step + 2 * i) : V{};
          }
          transpose(square);
#pragma GCC unroll 16
          for (int r = 0; r < LANES; ++r) *(Pairs*)(to + (i + r) * WIDTH + n) = (Pairs)square[r];
        }
    for (; i < half; ++i)
      for (int n = 0; n < WIDTH; ++n) {
        const S* const at = k + (first + n) * row_step + 2 * i * step;
        to[i * WIDTH + n] = first + n < count ? pair(at, 2 * i + 1 < depth ? at + step : nullptr) : 0u;
      }
  }
}

INLINE void pack_value_pairs(const S* v, int64_t row_step, int64_t step, int64_t count, int64_t columns,
                             float* to_floats) {
  const int64_t vectors = (columns + LANES - 1) / LANES;
  const int64_t rows = (count + WIDTH - 1) / WIDTH * WIDTH;
  Pair* to = (Pair*)to_floats;
  for (int64_t first = 0; first < vectors; first += VECTORS) {
    const int64_t wide = (vectors - first < VECTORS ? vectors - first : VECTORS) * LANES;
    for (int64_t j = 0; j < rows; j += 2)
      for (int64_t n = 0; n < wide; n += LANES) {
        const int64_t column = first * LANES + n;
        const S *const one = v + j * row_step + column * step, *const two = one + row_step;
        Pair* const at = to + j / 2 * wide + n;
        if (step == 1 && columns - column >= LANES && j + 1 < count) {
          const U low = __builtin_convertvector(*(const Anywhere*)one, U);
          *(Pairs*)at = low | __builtin_convertvector(*(const Anywhere*)two, U) << 16;
          continue;
        }
        for (int64_t i = 0; i < LANES; ++i)
          at[i] = j < count && column + i < columns
                      ? pair(one + i * step, j + 1 < count ? two + i * step : nullptr)
                      : 0u;
      }
    to += KEYS / 2 * wide;
  }
}

// one query into its place in a tile
template <int R>
INLINE void pack_query_pairs(const S* q, int64_t step, int64_t depth, float* to_floats) {
  Pair* const to = (Pair*)to_floats;
  for (int64_t i = 0; 2 * i < depth; ++i)
    to[i * R] = pair(q + 2 * i * step, 2 * i + 1 < depth ? q + (2 * i + 1) * step : nullptr);
}
"""


def pairs_text(isa: Isa) -> str:
    """The products and the packing."""
    dot, rounded = (texts.get(isa.name, texts[""]) for texts in (_DOT, _ROUND))
    return _PAIRS.replace("DOT", dot).replace("ROUND", rounded)
