"""The gradient of attention with softmax or sigmoid scores, as C++ text beside the forward kernel's.

    P = weights, made again from q and k;  dP = dy v^T
    softmax   dS = P * (dP - rowsum(dy * y))        sigmoid   dS = P * (1 - P) * dP
    dv = P^T dy    dq = scale * dS k    dk = scale * dS^T q

A unit is a key head of a sequence, with all queries that read it: it goes over blocks of keys, and for each
over groups of queries, so that gradients of keys stay in the cache and nothing is shared with another unit.
Memory is in proportion to the queries. There is no gradient for a mask, nor for slopes.
"""

from __future__ import annotations

from tautomer.patterns.attention.form import AttentionForm

_SLOPE = {
    "exponential": "w * (*(const Aligned*)(down + at) - space.delta[row])",
    "pointwise": "w * (1.0f - w) * *(const Aligned*)(down + at)",
}
_WEIGHT = {
    "exponential": "exponential(*(const Aligned*)(scores + at) - space.top[row]) * space.share[row]",
    "pointwise": "weight(*(const Aligned*)(scores + at))",
}

_BACKWARD = """\
constexpr int GROUP_TILES = 8, GROUP_ROWS = GROUP_TILES * ROWS, KEY_ROWS = 4;
static_assert(GROUP_ROWS <= KEYS && WIDTH % KEY_ROWS == 0, "groups are packed like keys");

struct Backward {
  int64_t tiles, groups, depth, width;  // rounded up: head dimensions to whole vectors
  float *q, *dy, *q_rows, *dy_rows, *dq, *keys, *values, *key_rows, *dk, *dv;
  float *weights, *slopes, *down, *top, *share, *delta;
  Row* rows;
  Tile* extents;

  INLINE Backward(const Call& call, char*& at) {
    depth = (call.depth + LANES - 1) / LANES * LANES, width = call.vectors() * LANES;
    tiles = (call.block + ROWS - 1) / ROWS, groups = (tiles + GROUP_TILES - 1) / GROUP_TILES;
    q = take<float>(at, tiles * ROWS * call.depth);
    dy = take<float>(at, tiles * ROWS * call.width);
    q_rows = take<float>(at, groups * KEYS * depth);
    dy_rows = take<float>(at, groups * KEYS * width);
    dq = take<float>(at, tiles * ROWS * depth);
    keys = take<float>(at, KEYS * call.depth);
    values = take<float>(at, KEYS * call.width);
    key_rows = take<float>(at, KEYS * depth);
    dk = take<float>(at, KEYS * depth);
    dv = take<float>(at, KEYS * width);
    weights = take<float>(at, GROUP_ROWS * KEYS);
    slopes = take<float>(at, GROUP_ROWS * KEYS);
    down = take<float>(at, ROWS * KEYS);
    top = take<float>(at, tiles * ROWS);
    share = take<float>(at, tiles * ROWS);
    delta = take<float>(at, tiles * ROWS);
    rows = take<Row>(at, tiles * ROWS);
    extents = take<Tile>(at, tiles);
  }
};

struct Given {
  const S *y, *dy;  // contiguous, [batch, head, query, channel]
  const float* statistics;
  S *dq, *dk, *dv;  // contiguous
};

// result[key] += sum over the queries of some tiles of weights[query][key] * rows[query]
template <int N>
NOINLINE void add_by_key(const float* weights, const float* rows, int tiles, int panels, float* result,
                         int64_t stride) {
  for (int p = 0; p < panels; ++p)
    for (int key = 0; key < WIDTH; key += KEY_ROWS) {
      float* const to = result + (p * WIDTH + key) * stride;
      V c[KEY_ROWS][N] = {};
      const float* b = rows;
      for (int t = 0; t < tiles; ++t) {
        const float* a = weights + t * ROWS * KEYS + p * WIDTH + key;
        product<KEY_ROWS, N, 1, KEYS>(a, b, ROWS, c);
      }
#pragma GCC unroll 8
      for (int r = 0; r < KEY_ROWS; ++r)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) *(Aligned*)(to + r * stride + n * LANES) += c[r][n];
    }
}

INLINE void add_all_by_key(const float* weights, const float* rows, int tiles, int panels, float* result,
                           int64_t stride) {
  int64_t vectors = stride / LANES;
  for (; vectors >= VECTORS; vectors -= VECTORS, rows += KEYS * WIDTH, result += WIDTH)
    add_by_key<VECTORS>(weights, rows, tiles, panels, result, stride);
  if (vectors == 1) add_by_key<1>(weights, rows, tiles, panels, result, stride);
  if constexpr (VECTORS > 2) {
    if (vectors == 2) add_by_key<2>(weights, rows, tiles, panels, result, stride);
    if (vectors == 3) add_by_key<3>(weights, rows, tiles, panels, result, stride);
  }
}

INLINE void write_gradient(const float* from, int64_t columns, float factor, S* to) {
  for (int64_t n = 0; n < columns; n += LANES) {
    const V x = *(const Aligned*)(from + n) * factor;
    if (columns - n >= LANES)
      store(to + n, x);
    else
      store_part(to + n, x, columns - n);
  }
}

INLINE void begin_backward(const Call& call, const Given& given, const Place& place, const Backward& space) {
  std::memset(space.dq, 0, (size_t)(space.tiles * ROWS * space.depth) * sizeof(float));
  for (int64_t row = 0; row < space.groups * GROUP_ROWS; ++row) {
    const bool there = row < place.count;
    const int64_t head = there ? head_of(call, place, row) : 0, i = there ? query_of(call, place, row) : 0;
    const int64_t flat = (place.batch * call.heads + head) * call.rows + i;
    const S* const q = call.q + place.batch * call.q_steps[0] + head * call.q_steps[1] + i * call.q_steps[2];
    const S *const dy = given.dy + flat * call.width, *const y = given.y + flat * call.width;
    const int64_t group = row / GROUP_ROWS, in_group = row % GROUP_ROWS;
    float* const q_rows = space.q_rows + group * KEYS * space.depth;
    float* const dy_rows = space.dy_rows + group * KEYS * space.width;
    pack_row(there ? q : nullptr, call.q_steps[3], call.depth, in_group, q_rows);
    pack_row(there ? dy : nullptr, 1, call.width, in_group, dy_rows);
    if (row >= space.tiles * ROWS) continue;
    float* const q_to = space.q + row / ROWS * ROWS * call.depth + row % ROWS;
    float* const dy_to = space.dy + row / ROWS * ROWS * call.width + row % ROWS;
    space.rows[row] = there ? row_of(call, place, row) : Row{0, 0, nullptr, 0.0f, 0.0f};
    space.top[row] = space.share[row] = space.delta[row] = 0.0f;
    if (there) {
      pack_query<ROWS>(q, call.q_steps[3], call.depth, q_to);
      pack_query<ROWS>(dy, 1, call.width, dy_to);
    } else {
      for (int64_t n = 0; n < call.depth; ++n) q_to[n * ROWS] = 0.0f;
      for (int64_t n = 0; n < call.width; ++n) dy_to[n * ROWS] = 0.0f;
    }
    if (EXPONENTIAL && there) {
      const float top = given.statistics[2 * flat], sum = given.statistics[2 * flat + 1];
      space.top[row] = top > -__builtin_inff() ? top : 0.0f;
      space.share[row] = EMPTY_IS_ZERO && sum == 0.0f ? 0.0f : 1.0f / sum;
      double delta = 0.0;
      for (int64_t n = 0; n < call.width; ++n) delta += (double)one(dy + n) * (double)one(y + n);
      space.delta[row] = (float)delta;
    }
  }
  extents_of<ROWS>(call, place, space);
}

// P and dS of a tile and a block of keys, for the panels that it sees; the others are 0.
INLINE void weights_and_slopes(const Call& call, const Backward& space, int64_t tile, int64_t j, int panels,
                               float* scores, float* slopes) {
  const Tile& extent = space.extents[tile];
  const float start = SOFTCAP ? 0.0f : call.bias;
  float* const down = space.down;
  const float *const q = space.q + tile * ROWS * call.depth, *const dy = space.dy + tile * ROWS * call.width;
  scores_of<ROWS>(q, space.keys, call.depth, start, call.scale, scores, panels);
  scores_of<ROWS>(dy, space.values, call.width, 0.0f, 1.0f, down, panels);
  const bool ends = extent.inner_begin > j || extent.inner_end < j + panels * WIDTH;
  if (ADJUSTED || ends) adjust<ROWS>(call, space.rows + tile * ROWS, j, scores, panels, ends);
  for (int r = 0; r < ROWS; ++r)
    for (int n = 0; n < KEYS; n += LANES) {
      const int at = r * KEYS + n;
      const int64_t row = tile * ROWS + r;
      (void)row;
      V w{}, slope{};
      if (n < panels * WIDTH) {
        w = WEIGHT;
        slope = SLOPE;
      }
      *(Aligned*)(slopes + at) = slope;
      *(Aligned*)(scores + at) = w;
    }
}

NOINLINE void backward_unit(const Call& call, const Given& given, int64_t index) {
  char* at = call.scratch;
  const Backward space(call, at);
  const Place place = place_of(call, index);
  begin_backward(call, given, place, space);
  const S* const k = call.k + place.batch * call.k_steps[0] + place.kv_head * call.k_steps[1];
  const S* const v = call.v + place.batch * call.v_steps[0] + place.kv_head * call.v_steps[1];
  const float scale = call.scale;
  const int64_t* const ks = call.k_steps;
  const int64_t* const vs = call.v_steps;
  for (int64_t j = 0; j < call.columns; j += KEYS) {
    const int64_t count = call.columns - j < KEYS ? call.columns - j : KEYS;
    pack_keys(k + j * ks[2], ks[2], ks[3], count, call.depth, space.keys);
    pack_keys(v + j * vs[2], vs[2], vs[3], count, call.width, space.values);
    pack_values(k + j * ks[2], ks[2], ks[3], count, call.depth, space.key_rows);
    std::memset(space.dk, 0, (size_t)(KEYS * space.depth) * sizeof(float));
    std::memset(space.dv, 0, (size_t)(KEYS * space.width) * sizeof(float));
    for (int64_t group = 0; group < space.groups; ++group) {
      const int64_t first = group * GROUP_TILES;
      const int tiles = (int)(space.tiles - first < GROUP_TILES ? space.tiles - first : GROUP_TILES);
      int most = 0;
      for (int t = 0; t < tiles; ++t) {
        const Tile& tile = space.extents[first + t];
        const bool none = tile.end <= j || tile.begin >= j + count || tile.begin >= tile.end;
        const int64_t seen = none ? 0 : tile.end - j < count ? tile.end - j : count;
        const int panels = (int)((seen + WIDTH - 1) / WIDTH);
        most = panels > most ? panels : most;
        float* const scores = space.weights + t * ROWS * KEYS;
        float* const slopes = space.slopes + t * ROWS * KEYS;
        weights_and_slopes(call, space, first + t, j, panels, scores, slopes);
        if (panels)
          add_all_values<ROWS>(slopes, space.key_rows, panels, space.dq + (first + t) * ROWS * space.depth,
                               space.depth / LANES);
      }
      const float* const dy_rows = space.dy_rows + group * KEYS * space.width;
      const float* const q_rows = space.q_rows + group * KEYS * space.depth;
      add_all_by_key(space.weights, dy_rows, tiles, most, space.dv, space.width);
      add_all_by_key(space.slopes, q_rows, tiles, most, space.dk, space.depth);
    }
    const int64_t above = (place.batch * call.kv_heads + place.kv_head) * call.columns + j;
    for (int64_t i = 0; i < count; ++i) {
      write_gradient(space.dk + i * space.depth, call.depth, scale, given.dk + (above + i) * call.depth);
      write_gradient(space.dv + i * space.width, call.width, 1.0f, given.dv + (above + i) * call.width);
    }
  }
  for (int64_t row = 0; row < place.count; ++row) {
    const int64_t head = head_of(call, place, row), i = query_of(call, place, row);
    S* const to = given.dq + ((place.batch * call.heads + head) * call.rows + i) * call.depth;
    write_gradient(space.dq + row * space.depth, call.depth, scale, to);
  }
}

INLINE Given read_given(const void* const* inputs, void* const* outputs) {
  return {(const S*)inputs[0], (const S*)inputs[1], (const float*)inputs[2],
          (S*)outputs[0], (S*)outputs[1], (S*)outputs[2]};
}

// y, dy and the statistics come after the forward's inputs; dq, dk, dv, and scratch go out
ENTRY void SYMBOL_backward(const void* const* inputs, void* const* outputs, const double* parameters,
                           int64_t first, int64_t last, int64_t) {
  void* const memory[] = {nullptr, nullptr, outputs[3], nullptr};
  const Call call = read(inputs, memory, parameters);
  const Given given = read_given(inputs + 3 + MASK + LENGTHS + ALIBI + SINK, outputs);
  for (int64_t index = first; index < last; ++index) backward_unit(call, given, index);
}

ENTRY void SYMBOL_backward_scratch(const void* const*, void* const* outputs, const double* parameters,
                                   int64_t, int64_t, int64_t) {
  void* none[4] = {};
  const void* nothing[8] = {};
  const Call call = read(nothing, none, parameters);
  char* at = nullptr;
  (void)Backward(call, at);
  *(int64_t*)outputs[0] = (int64_t)(uintptr_t)at + 64;
}
"""


def has_backward(form: AttentionForm) -> bool:
    """Whether there is a gradient by a kernel: of softmax and of sigmoid, where there is no soft cap."""
    return form.score in ("softmax", "sigmoid") and not form.softcap


def backward_text(form: AttentionForm) -> str:
    """The functions of the gradient."""
    kind = form.function.kind
    return _BACKWARD.replace("WEIGHT;", f"{_WEIGHT[kind]};").replace("SLOPE;", f"{_SLOPE[kind]};")
