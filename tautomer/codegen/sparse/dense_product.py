"""A dense matrix product: what sparse linear maps fall back to for more rows than share few neurons.

    SYMBOL_many        y = h W + b               W [neurons, outputs]
    SYMBOL_gated_many  h = g * (x U^T + c)       U [neurons, inputs]

Tiles of the result stay in registers while a panel of the matrix, packed to be contiguous, goes by. Each call
computes some columns of the result, of all rows.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

_TILE_ROWS = {"avx512": 12}  # as many sums as there are registers for; 6 of two vectors in 16 registers
_USUAL_ROWS = 6

_TEXT = """\
constexpr int TILE_ROWS = @ROWS@, TILE = 2 * LANES, PANELS = 128 / TILE, ACROSS = PANELS * TILE;
constexpr int64_t DEPTH = 128, HIGH = 192 / TILE_ROWS * TILE_ROWS;

// What a task works with; some 260 KiB on its stack.
struct Packed {
  alignas(64) float panels[PANELS][DEPTH][TILE];
  alignas(64) float left[HIGH][DEPTH];
  alignas(64) float sums[HIGH][ACROSS];
};

// W [k, k + depth) x [column, column + across), or U the other way round; what is not there is 0
template <bool turned>
void pack(Packed& to, const S* weight, int64_t k, int64_t depth, int64_t column, int64_t across,
          int64_t stride) {
  for (int p = 0; p < PANELS; ++p) {
    const int64_t from = column + p * TILE;
    const int64_t there = across - p * TILE < TILE ? across - p * TILE : TILE;
    if (turned) {
      for (int64_t c = 0; c < TILE; ++c)
        for (int64_t i = 0; i < depth; ++i)
          to.panels[p][i][c] = c < there ? load_part(weight + (from + c) * stride + k + i, 1)[0] : 0.0f;
    } else {
      for (int64_t i = 0; i < depth; ++i)
        for (int64_t c = 0; c < TILE; c += LANES) {
          const S* const at = weight + (k + i) * stride + from + c;
          const int64_t left = there - c;
          *(V*)&to.panels[p][i][c] = left >= LANES ? load(at) : left > 0 ? load_part(at, left) : V{};
        }
    }
  }
}

INLINE void widen(float* to, const S* from, int64_t count) {
  for (int64_t i = 0; i < count; i += LANES)
    *(V*)(to + i) = count - i < LANES ? load_part(from + i, count - i) : load(from + i);
}

// one tile: sums += left panel
void tile(const float (*left)[DEPTH], const float (*panel)[TILE], float* sums, int64_t depth) {
  V low[TILE_ROWS], high[TILE_ROWS];
#pragma GCC unroll 12
  for (int r = 0; r < TILE_ROWS; ++r) {
    low[r] = *(const V*)(sums + r * ACROSS);
    high[r] = *(const V*)(sums + r * ACROSS + LANES);
  }
  for (int64_t i = 0; i < depth; ++i) {
    const V a = *(const V*)&panel[i][0], b = *(const V*)&panel[i][LANES];
#pragma GCC unroll 12
    for (int r = 0; r < TILE_ROWS; ++r) {
      const V factor = all(left[r][i]);
      low[r] += factor * a;
      high[r] += factor * b;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < TILE_ROWS; ++r) {
    *(V*)(sums + r * ACROSS) = low[r];
    *(V*)(sums + r * ACROSS + LANES) = high[r];
  }
}

// y = gate * (x W + b) without a gate where it is null
template <bool turned>
void many(const S* x, const S* weight, const S* bias, const S* gate, S* y, int64_t rows, int64_t inner,
          int64_t first, int64_t last, int64_t outputs) {
  Packed work;
  const int64_t stride = turned ? inner : outputs;
  for (int64_t column = first; column < last; column += ACROSS) {
    const int64_t across = last - column < ACROSS ? last - column : ACROSS;
    for (int64_t top = 0; top < rows; top += HIGH) {
      const int64_t high = rows - top < HIGH ? rows - top : HIGH;
      const int64_t tiles = (high + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
      std::memset(work.sums, 0, (size_t)(tiles * ACROSS) * sizeof(float));
      for (int64_t k = 0; k < inner; k += DEPTH) {
        const int64_t depth = inner - k < DEPTH ? inner - k : DEPTH;
        pack<turned>(work, weight, k, depth, column, across, stride);
        for (int64_t r = 0; r < tiles; ++r)
          if (r < high) widen(work.left[r], x + (top + r) * inner + k, depth);
          else std::memset(work.left[r], 0, sizeof work.left[r]);
        // a panel stays in the first cache while all rows go by
        for (int p = 0; p * TILE < across; ++p)
          for (int64_t r = 0; r < high; r += TILE_ROWS)
            tile(work.left + r, work.panels[p], &work.sums[r][p * TILE], depth);
      }
      for (int64_t r = 0; r < high; ++r)
        for (int64_t i = 0; i < across; i += LANES) {
          const int64_t left = across - i, at = (top + r) * outputs + column + i;
          V sum = *(const V*)&work.sums[r][i];
          sum += left < LANES ? load_part(bias + column + i, left) : load(bias + column + i);
          if (gate) sum *= left < LANES ? load_part(gate + at, left) : load(gate + at);
          if (left < LANES) store_part(y + at, sum, left);
          else store(y + at, sum);
        }
    }
  }
}

// h, W, b -> y; parameters: rows, neurons; outputs [first, last) of columns
ENTRY(SYMBOL_many) {
  many<false>((const S*)inputs[0], (const S*)inputs[1], (const S*)inputs[2], nullptr, (S*)outputs[0],
              (int64_t)parameters[0], (int64_t)parameters[1], first, last, columns);
}

// x, U, c, g -> h; parameters: rows, inputs; neurons [first, last) of columns
ENTRY(SYMBOL_gated_many) {
  many<true>((const S*)inputs[0], (const S*)inputs[1], (const S*)inputs[2], (const S*)inputs[3],
             (S*)outputs[0], (int64_t)parameters[0], (int64_t)parameters[1], first, last, columns);
}
"""


def dense_product(isa: Isa) -> str:
    """The functions; `ENTRY` and the storage type are defined before."""
    return _TEXT.replace("@ROWS@", str(_TILE_ROWS.get(isa.name, _USUAL_ROWS)))
