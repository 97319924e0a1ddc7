"""How q, k and v get into the order in which the products read them, as C++ text.

    q  [tile][d][R]    k  [panel][d][WIDTH]    v  [panel of columns][KEYS][columns]

All of it is float32 and padded with zeros, so that the products have no ends to look after and every storage
type and order of axes costs the same.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

# Rows of a square of LANES vectors become columns: in each step, halves of blocks of growing size change
# places.
_TRANSPOSED = """\
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES 1
#endif
#endif
INLINE void transpose(V (&v)[LANES]) {{
#ifdef SHUFFLES
{steps}
#else
  V w[LANES];
  for (int i = 0; i < LANES; ++i)
    for (int j = 0; j < LANES; ++j) w[j][i] = v[i][j];
  for (int i = 0; i < LANES; ++i) v[i] = w[i];
#endif
}}
"""

_STEP = """\
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i)
    if (!(i & {half})) {{
      const V a = v[i], b = v[i + {half}];
      v[i] = __builtin_shufflevector(a, b, {low});
      v[i + {half}] = __builtin_shufflevector(a, b, {high});
    }}"""

_PACK = """\
INLINE float one(const S* p) { return load_part(p, 1)[0]; }

// count rows of x, [row][column], as [column][width]; what is missing is 0
INLINE void pack_columns(const S* x, int64_t row_step, int64_t step, int64_t count, int64_t columns,
                         float* to) {
  int64_t column = 0;
  if (row_step == 1) {
    for (; column < columns; ++column)
      for (int n = 0; n < WIDTH; n += LANES) {
        const S* const p = x + column * step + n;
        const int64_t left = count - n;
        *(V*)(to + column * WIDTH + n) = left >= LANES ? load(p) : left > 0 ? load_part(p, left) : V{};
      }
    return;
  }
  if (step == 1)
    for (; column + LANES <= columns; column += LANES)
      for (int n = 0; n < WIDTH; n += LANES) {
        V square[LANES];
        for (int i = 0; i < LANES; ++i)
          square[i] = n + i < count ? load(x + (n + i) * row_step + column) : V{};
        transpose(square);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) *(V*)(to + (column + i) * WIDTH + n) = square[i];
      }
  for (; column < columns; ++column)
    for (int n = 0; n < WIDTH; ++n)
      to[column * WIDTH + n] = n < count ? one(x + n * row_step + column * step) : 0.0f;
}

INLINE void pack_keys(const S* k, int64_t row_step, int64_t step, int64_t count, int64_t depth, float* to) {
  for (int64_t n = 0; n < count; n += WIDTH, to += WIDTH * depth)
    pack_columns(k + n * row_step, row_step, step, count - n, depth, to);
}

// one row into its place among rows that are read by panels of columns, [panel][KEYS][columns]
INLINE void pack_row(const S* x, int64_t step, int64_t columns, int64_t row, float* to) {
  const int64_t vectors = (columns + LANES - 1) / LANES;
  for (int64_t first = 0; first < vectors; first += VECTORS) {
    const int64_t wide = vectors - first < VECTORS ? vectors - first : VECTORS;
    for (int64_t n = 0; n < wide; ++n) {
      const int64_t at = (first + n) * LANES, left = columns - at;
      const S* const p = x + at * step;
      V v{};
      if (x && step == 1)
        v = left >= LANES ? load(p) : load_part(p, left);
      else if (x)
        for (int64_t i = 0; i < LANES && i < left; ++i) v[i] = one(p + i * step);
      *(V*)(to + (row * wide + n) * LANES) = v;
    }
    to += KEYS * wide * LANES;
  }
}

INLINE void pack_values(const S* v, int64_t row_step, int64_t step, int64_t count, int64_t columns,
                        float* to) {
  const int64_t keys = (count + WIDTH - 1) / WIDTH * WIDTH;
  for (int64_t j = 0; j < keys; ++j) pack_row(j < count ? v + j * row_step : nullptr, step, columns, j, to);
}

// one query into its place in a tile
template <int R>
INLINE void pack_query(const S* q, int64_t step, int64_t depth, float* to) {
  int64_t i = 0;
  if (step == 1)
    for (; i + LANES <= depth; i += LANES) {
      const V x = load(q + i);
      for (int lane = 0; lane < LANES; ++lane) to[(i + lane) * R] = x[lane];
    }
  for (; i < depth; ++i) to[i * R] = one(q + i * step);
}
"""


def pack_text(isa: Isa) -> str:
    """The packing."""
    lanes = range(isa.lanes)
    steps, half = [], 1
    while half < isa.lanes:
        low = [i if not i & half else isa.lanes + i - half for i in lanes]
        high = [i + half if not i & half else isa.lanes + i for i in lanes]
        steps.append(_STEP.format(half=half, low=", ".join(map(str, low)), high=", ".join(map(str, high))))
        half *= 2
    return _TRANSPOSED.format(steps="\n".join(steps)) + "\n" + _PACK
