"""A few queries against many keys, as C++ text: what is read once is read where it lies.

Packing keys pays when many tiles use them. A single query takes as long as its keys and values take to come
from memory, so it multiplies them there: four dot products at once, and rows of values into registers.
"""

from __future__ import annotations

DIRECT_ROWS = 4
"""Rows of a unit up to which each of them goes over the keys by itself."""

DIRECT = (
    f"constexpr int DIRECT_ROWS = {DIRECT_ROWS};\n"
    + """\

// scores[j] = start + scale * q . k[j]; q is padded with zeros
NOINLINE void dots(const float* q, const S* k, int64_t row_step, int64_t count, int64_t depth, float start,
                   float scale, float* scores) {
  const int64_t whole = depth / LANES * LANES, left = depth - whole;
  for (int64_t j = 0; j < count; j += 4) {
    const S* rows[4];
    V sums[4] = {};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) rows[i] = k + (j + i < count ? j + i : j) * row_step;
    for (int64_t n = 0; n < whole; n += LANES) {
      const V x = *(const V*)(q + n);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[i] += x * load(rows[i] + n);
    }
    if (left)
      for (int i = 0; i < 4; ++i) sums[i] += *(const V*)(q + whole) * load_part(rows[i] + whole, left);
    for (int i = 0; i < 4 && j + i < count; ++i) scores[j + i] = start + scale * total(sums[i]);
  }
}

template <int N>
INLINE void add_columns(const float* weights, const S* v, int64_t row_step, int64_t count, float* result) {
  V c[N] = {};
  for (int64_t j = 0; j < count; ++j) {
    const V x = all(weights[j]);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) c[n] += x * load(v + j * row_step + n * LANES);
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) *(V*)(result + n * LANES) += c[n];
}

// result += weights v
NOINLINE void add_rows(const float* weights, const S* v, int64_t row_step, int64_t count, int64_t width,
                       float* result) {
  int64_t n = 0;
  for (; n + 8 * LANES <= width; n += 8 * LANES) add_columns<8>(weights, v + n, row_step, count, result + n);
  for (; n + LANES <= width; n += LANES) add_columns<1>(weights, v + n, row_step, count, result + n);
  if (n == width) return;
  V c{};
  for (int64_t j = 0; j < count; ++j) c += weights[j] * load_part(v + j * row_step + n, width - n);
  *(V*)(result + n) += c;
}
"""
)
