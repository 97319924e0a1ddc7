"""How a unit of work goes over its keys, as C++ text.

A unit is some queries of the heads that share a key head, and the keys, or a part of them: the queries are
rows in the order [position][head], so that neighbours see nearly the same keys. It packs a block of keys once
for all its tiles, and keeps for each row the sum of weighted values, and of weights where these are divided
by it.

An exponential is taken of a score less the largest that the row had so far; when a larger one comes, what was
summed is multiplied by e^(old - new), which is exact but for rounding. Units that hold parts of the keys
leave (largest, sum, values) behind, which `combine` joins in the same way.
"""

from __future__ import annotations

from tautomer.codegen.attention_tile import ROWS
from tautomer.codegen.isa import Isa
from tautomer.codegen.numbers_per_row import single
from tautomer.patterns.attention_form import AttentionForm

CALL = """\
typedef V Aligned __attribute__((may_alias));

struct Call {
  const S *q, *k, *v;
  const void* mask;
  const int64_t* lengths;
  const float *slopes, *sink;
  S* y;
  float* statistics;
  char* scratch;
  float* parts;
  float scale, bias, softcap, cap, inverse_cap;
  int64_t window, free, batch, heads, kv_heads, rows, columns, depth, width, block, splits;
  int64_t q_steps[4], k_steps[4], v_steps[4], y_steps[4], mask_steps[4];

  int64_t group() const { return heads / kv_heads; }
  int64_t vectors() const { return (width + LANES - 1) / LANES; }
  int64_t blocks() const { return (rows * group() + block - 1) / block; }
  int64_t part_size() const { return block * (vectors() * LANES + 2); }
};

INLINE Call read(const void* const* inputs, void* const* outputs, const double* parameters) {
  Call call{};
  call.q = (const S*)*inputs++, call.k = (const S*)*inputs++, call.v = (const S*)*inputs++;
  if (MASK) call.mask = *inputs++;
  if (LENGTHS) call.lengths = (const int64_t*)*inputs++;
  if (ALIBI) call.slopes = (const float*)*inputs++;
  if (SINK) call.sink = (const float*)*inputs++;
  call.y = (S*)outputs[0], call.statistics = (float*)outputs[1];
  call.scratch = (char*)outputs[2], call.parts = (float*)outputs[3];
  const float scale = (float)*parameters++, bias = (float)*parameters++, softcap = (float)*parameters++;
  call.scale = SOFTCAP ? scale : scale * FACTOR;
  call.bias = bias * FACTOR, call.cap = softcap * FACTOR, call.inverse_cap = 1.0f / softcap;
  int64_t* const whole[] = {&call.window, &call.free, &call.batch, &call.heads, &call.kv_heads, &call.rows,
                            &call.columns, &call.depth, &call.width, &call.block, &call.splits};
  for (int64_t* one : whole) *one = (int64_t)*parameters++;
  int64_t* const steps[] = {call.q_steps, call.k_steps, call.v_steps, call.y_steps, call.mask_steps};
  for (int64_t* four : steps)
    for (int i = 0; i < 4; ++i) four[i] = (int64_t)*parameters++;
  return call;
}
"""

_WEIGHTS = """\
// Weights take the place of a tile's scores; of sums and what else is per row, the tile's own.
template <int R, bool LAST>
NOINLINE void make_weights(float* scores, int panels, const float* shift, const float* offset, Aligned* sums,
                           Aligned* most) {
  (void)shift, (void)offset, (void)sums, (void)most;
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < panels * WIDTH; n += LANES) {
      Aligned* const at = (Aligned*)(scores + r * KEYS + n);
MAKE
    }
}
"""

_MAKE = {
    "exponential": """\
      const V w = exponential(*at - shift[r]);
      sums[r] += w;
      *at = w;""",
    "pointwise": "      *at = weight(*at);",
    "summed": """\
      const V w = weight(*at);
      sums[r] += w;
      *at = w;""",
    # relative to the largest, which no power of is infinite then
    "two sweeps": """\
      V w = weight(*at);
      if constexpr (LAST)
        w = second_weight(w * shift[r] - offset[r]);
      else
        most[r] = w > most[r] ? w : most[r];
      sums[r] += w;
      *at = w;""",
}

_UNIT = """\
template <class T>
INLINE T* take(char*& from, int64_t count) {
  from += (64 - (uintptr_t)from % 64) % 64;
  T* const at = (T*)from;
  from += count * (int64_t)sizeof(T);
  return at;
}

struct Tile {
  int64_t begin, end;              // what any of its rows sees
  int64_t inner_begin, inner_end;  // what all of them see
};

// What a unit needs beside its inputs.
template <int R>
struct Space {
  int64_t tiles;
  float *q, *result, *keys, *values, *scores, *top, *shift, *offset;
  Aligned *sums, *most;
  Row* rows;
  Tile* extents;

  // a query by itself is padded to whole vectors
  static int64_t q_size(const Call& call) {
    return R == 1 ? (call.depth + LANES - 1) / LANES * LANES : R * call.depth;
  }

  INLINE Space(const Call& call, char*& at) {
    const int64_t padded = call.vectors() * LANES;
    tiles = (call.block + R - 1) / R;
    q = take<float>(at, tiles * q_size(call));
    result = take<float>(at, tiles * R * padded);
    keys = take<float>(at, KEYS * call.depth);
    values = take<float>(at, KEYS * padded);
    scores = take<float>(at, R * KEYS);
    top = take<float>(at, tiles * R);
    shift = take<float>(at, tiles * R);
    offset = take<float>(at, tiles * R);
    sums = take<Aligned>(at, tiles * R);
    most = take<Aligned>(at, tiles * R);
    rows = take<Row>(at, tiles * R);
    extents = take<Tile>(at, tiles);
  }
};

struct Place {
  int64_t batch, kv_head, first, count, from, to;  // rows [first, first + count), keys [from, to)
};

INLINE Place place_of(const Call& call, int64_t unit) {
  const int64_t split = unit % call.splits, above = unit / call.splits;
  const int64_t block = above % call.blocks(), pair = above / call.blocks();
  const int64_t all_rows = call.rows * call.group(), first = block * call.block;
  const int64_t length = ((call.columns + call.splits - 1) / call.splits + KEYS - 1) / KEYS * KEYS;
  const int64_t from = split * length, to = from + length;
  return {pair / call.kv_heads, pair % call.kv_heads, first,
          all_rows - first < call.block ? all_rows - first : call.block,
          from < call.columns ? from : call.columns, to < call.columns ? to : call.columns};
}

// Which head and which query a row is.
INLINE int64_t head_of(const Call& call, const Place& place, int64_t row) {
  return place.kv_head * call.group() + (place.first + row) % call.group();
}
INLINE int64_t query_of(const Call& call, const Place& place, int64_t row) {
  return (place.first + row) / call.group();
}

INLINE Row row_of(const Call& call, const Place& place, int64_t row) {
  const int64_t head = head_of(call, place, row), i = query_of(call, place, row);
  const int64_t aligned = i + call.columns - call.rows, last = FROM_START ? i : aligned;
  Row one{0, call.columns, nullptr, 0.0f, 0.0f};
  if (CAUSAL && last + 1 < one.end) one.end = last + 1;
  if (WINDOW && last - call.window + 1 > 0) one.begin = last - call.window + 1;
  if (LENGTHS && call.lengths[place.batch] < one.end) one.end = call.lengths[place.batch];
  if (one.end <= one.begin) one.begin = one.end = 0;
  if (MASK) {
    const int64_t* const steps = call.mask_steps;
    one.mask = (const Mask*)call.mask + place.batch * steps[0] + head * steps[1] + i * steps[2];
  }
  if (ALIBI) one.slope = call.slopes[head] * FACTOR, one.position = (float)aligned;
  return one;
}

INLINE float extra_of(const Call& call, int64_t head) {
  return (SINK ? call.sink[head] : 0.0f) * FACTOR;
}

// What the tiles see, from what their rows do.
template <int R, class Rows>
INLINE void extents_of(const Call& call, const Place& place, const Rows& space) {
  for (int64_t t = 0; t < space.tiles; ++t) {
    Tile tile{call.columns, 0, 0, call.columns};
    for (int r = 0; r < R && t * R + r < place.count; ++r) {
      const Row& row = space.rows[t * R + r];
      if (row.end > row.begin && row.begin < tile.begin) tile.begin = row.begin;
      if (row.end > tile.end) tile.end = row.end;
      if (row.begin > tile.inner_begin) tile.inner_begin = row.begin;
      if (row.end < tile.inner_end) tile.inner_end = row.end;
    }
    space.extents[t] = tile;
  }
}

// Reads the queries, and what each of them sees.
template <int R>
INLINE void begin(const Call& call, const Place& place, const Space<R>& space) {
  const int64_t padded = call.vectors() * LANES, all_of_them = space.tiles * R;
  std::memset(space.result, 0, (size_t)(all_of_them * padded) * sizeof(float));
  for (int64_t row = 0; row < all_of_them; ++row) {
    float* const to = space.q + row / R * space.q_size(call) + row % R;
    space.rows[row] = Row{0, 0, nullptr, 0.0f, 0.0f};
    space.sums[row] = space.most[row] = V{};
    space.top[row] = -__builtin_inff(), space.shift[row] = 0.0f;
    if (row < place.count) {
      const int64_t head = head_of(call, place, row), i = query_of(call, place, row);
      const S* const q =
          call.q + place.batch * call.q_steps[0] + head * call.q_steps[1] + i * call.q_steps[2];
      pack_query<R>(q, call.q_steps[3], call.depth, call.scale, to);
      for (int64_t n = call.depth; n < (R == 1 ? space.q_size(call) : 0); ++n) to[n] = 0.0f;
      space.rows[row] = row_of(call, place, row);
      if (EXTRA && place.from == 0) {
        space.top[row] = space.shift[row] = extra_of(call, head);
        space.sums[row][0] = 1.0f;
      }
    } else {
      for (int64_t i = 0; i < call.depth; ++i) to[i * R] = 0.0f;
    }
  }
  extents_of<R>(call, place, space);
}

// Makes room for larger scores: what was summed is in units of e^top.
template <int R>
INLINE void raise_top(const float* scores, int panels, const Space<R>& space, int64_t tile, int64_t padded) {
  float* const top = space.top + tile * R;
  float* const result = space.result + tile * R * padded;
  for (int r = 0; r < R; ++r) {
    V most = *(const Aligned*)(scores + r * KEYS);
    for (int n = LANES; n < panels * WIDTH; n += LANES) {
      const V s = *(const Aligned*)(scores + r * KEYS + n);
      most = s > most ? s : most;
    }
    const float highest = largest(most);
    if (!(highest > top[r])) continue;
    if (top[r] > -__builtin_inff()) {
      const V down = fall(top[r], highest);
      space.sums[tile * R + r] *= down;
      for (int64_t i = 0; i < padded; i += LANES) *(Aligned*)(result + r * padded + i) *= down;
    }
    top[r] = space.shift[tile * R + r] = highest;
  }
}

template <int R, bool LAST>
NOINLINE void sweep(const Call& call, const Place& place, const Space<R>& space) {
  const int64_t vectors = call.vectors(), padded = vectors * LANES;
  int64_t from = place.to, to = place.from;
  for (int64_t t = 0; t < space.tiles; ++t) {
    const Tile& tile = space.extents[t];
    if (tile.begin < tile.end && tile.begin < from) from = tile.begin;
    if (tile.end > to) to = tile.end;
  }
  from = from / KEYS * KEYS > place.from ? from / KEYS * KEYS : place.from;
  to = to < place.to ? to : place.to;
  const S* const k = call.k + place.batch * call.k_steps[0] + place.kv_head * call.k_steps[1];
  const S* const v = call.v + place.batch * call.v_steps[0] + place.kv_head * call.v_steps[1];
  const int64_t *const ks = call.k_steps, *const vs = call.v_steps;
  const bool direct = R == 1 && ks[3] == 1 && vs[3] == 1;
  for (int64_t j = from; j < to; j += KEYS) {
    const int64_t count = to - j < KEYS ? to - j : KEYS;
    if (!direct) {
      pack_keys(k + j * ks[2], ks[2], ks[3], count, call.depth, space.keys);
      if (LAST) pack_values(v + j * vs[2], vs[2], vs[3], count, call.width, space.values);
    }
    for (int64_t t = 0; t < space.tiles; ++t) {
      const Tile& tile = space.extents[t];
      if (tile.end <= j || tile.begin >= j + count || tile.begin >= tile.end) continue;
      const int64_t seen = tile.end - j < count ? tile.end - j : count, row = t * R;
      const int panels = (int)((seen + WIDTH - 1) / WIDTH);
      const float start = SOFTCAP ? 0.0f : call.bias;
      float* const scores = space.scores;
      const float* const q = space.q + t * space.q_size(call);
      if (direct)
        dots(q, k + j * ks[2], ks[2], seen, call.depth, start, scores);
      else
        scores_of<R>(q, space.keys, call.depth, start, scores, panels);
      const bool ends = tile.inner_begin > j || tile.inner_end < j + panels * WIDTH;
      if (ADJUSTED || ends) adjust<R>(call, space.rows + row, j, scores, panels, ends);
      if (EXPONENTIAL) raise_top<R>(scores, panels, space, t, padded);
      make_weights<R, LAST>(scores, panels, space.shift + row, space.offset + row, space.sums + row,
                            space.most + row);
      float* const result = space.result + row * padded;
      if (LAST && direct)
        add_rows(scores, v + j * vs[2], vs[2], seen, call.width, result);
      else if (LAST)
        add_all_values<R>(scores, space.values, panels, result, vectors);
    }
  }
}

// Between two sweeps: from the first weights' sums to what the second weights are made with. They are taken
// of numbers relative to the row's largest, whose powers neither overflow nor all vanish.
template <int R>
INLINE void between(const Call& call, const Space<R>& space) {
  for (int64_t row = 0; row < space.tiles * R; ++row) {
    const float sum = total(space.sums[row]), most = largest(space.most[row]);
    const float keys = (float)(space.rows[row].end - space.rows[row].begin);
    const float offset = keys > (float)call.free ? 1.0f : 0.0f, each = sum != 0.0f ? keys / sum : 0.0f;
    const float highest = most * each - offset, per = highest > 0.0f ? 1.0f / highest : 1.0f;
    space.shift[row] = each * per, space.offset[row] = offset * per;
    space.sums[row] = V{};
  }
}

INLINE void write_row(const Call& call, const Place& place, int64_t row, const float* values, float top,
                      float sum) {
  const int64_t head = head_of(call, place, row), i = query_of(call, place, row), step = call.y_steps[3];
  S* const y = call.y + place.batch * call.y_steps[0] + head * call.y_steps[1] + i * call.y_steps[2];
  float share = DIVIDED ? 1.0f / sum : 1.0f;
  // of no keys at all nothing is summed, whatever the weights are
  if (call.columns == 0 || (DIVIDED && EMPTY_IS_ZERO && sum == 0.0f)) share = 0.0f;
  for (int64_t n = 0; n < call.width; n += LANES) {
    const V x = *(const Aligned*)(values + n) * share;
    const int64_t left = call.width - n;
    if (step == 1 && left >= LANES)
      store(y + n, x);
    else
      for (int64_t lane = 0; lane < LANES && lane < left; ++lane)
        store_part(y + (n + lane) * step, all(x[lane]), 1);
  }
  if (EXPONENTIAL && call.statistics) {
    float* const two = call.statistics + 2 * ((place.batch * call.heads + head) * call.rows + i);
    two[0] = top, two[1] = sum;
  }
}

template <int R>
INLINE void unit(const Call& call, int64_t index) {
  char* at = call.scratch;
  const Space<R> space(call, at);
  const Place place = place_of(call, index);
  const int64_t padded = call.vectors() * LANES;
  begin<R>(call, place, space);
  if constexpr (TWO_SWEEPS) {
    sweep<R, false>(call, place, space);
    between<R>(call, space);
  }
  sweep<R, true>(call, place, space);
  float* const part = call.splits > 1 ? call.parts + index * call.part_size() : nullptr;
  for (int64_t row = 0; row < place.count; ++row) {
    const float* const values = space.result + row * padded;
    const float sum = total(space.sums[row]);
    if (part) {
      float* const to = part + row * (padded + 2);
      to[0] = space.top[row], to[1] = sum;
      std::memcpy(to + 2, values, (size_t)padded * sizeof(float));
    } else {
      write_row(call, place, row, values, space.top[row], sum);
    }
  }
}

// Joins the parts of the keys of one block of rows.
INLINE void joined(const Call& call, int64_t index) {
  const int64_t padded = call.vectors() * LANES, stride = padded + 2;
  const Place place = place_of(call, index * call.splits);
  const float* const parts = call.parts + index * call.splits * call.part_size();
  char* at = call.scratch;
  float* const values = take<float>(at, padded);
  for (int64_t row = 0; row < place.count; ++row) {
    float top = -__builtin_inff(), sum = 0.0f;
    for (int64_t i = 0; i < call.splits; ++i) {
      const float one = parts[i * call.part_size() + row * stride];
      top = one > top ? one : top;
    }
    std::memset(values, 0, (size_t)padded * sizeof(float));
    for (int64_t i = 0; i < call.splits; ++i) {
      const float* const part = parts + i * call.part_size() + row * stride;
      if (EXPONENTIAL && !(part[0] > -__builtin_inff()) && part[1] == 0.0f) continue;  // saw no key
      const V down = fall(part[0], top);
      sum += part[1] * down[0];
      for (int64_t n = 0; n < padded; n += LANES) {
        V x;
        std::memcpy(&x, part + 2 + n, sizeof x);
        *(Aligned*)(values + n) += x * down;
      }
    }
    write_row(call, place, row, values, top, sum);
  }
}

#define ENTRY extern "C" __attribute__((visibility("default")))

// the bytes of scratch that one thread needs
ENTRY void SYMBOL_scratch(const void* const*, void* const* outputs, const double* parameters, int64_t,
                          int64_t, int64_t) {
  void* none[4] = {};
  const void* nothing[8] = {};
  const Call call = read(nothing, none, parameters);
  char* at = nullptr;
  if (call.block <= DIRECT_ROWS) (void)Space<1>(call, at);
  else (void)Space<ROWS>(call, at);
  *(int64_t*)outputs[0] = (int64_t)(uintptr_t)at + 64;
}

ENTRY void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters, int64_t first,
                  int64_t last, int64_t) {
  const Call call = read(inputs, outputs, parameters);
  for (int64_t index = first; index < last; ++index) {
    if (call.block <= DIRECT_ROWS) unit<1>(call, index);
    else unit<ROWS>(call, index);
  }
}

ENTRY void SYMBOL_joined(const void* const* inputs, void* const* outputs, const double* parameters,
                         int64_t first, int64_t last, int64_t) {
  const Call call = read(inputs, outputs, parameters);
  for (int64_t index = first; index < last; ++index) joined(call, index);
}
"""


def constants(form: AttentionForm, factor: float) -> str:
    """What the form decides, as constants that the loops are written with."""
    kind = form.function.kind
    truths = {
        "MASK": bool(form.mask),
        "CAUSAL": bool(form.causal),
        "FROM_START": form.causal == "start",
        "WINDOW": form.window,
        "LENGTHS": form.lengths,
        "ALIBI": form.alibi,
        "SOFTCAP": form.softcap,
        "SINK": form.sink,
        "EXTRA": form.function.extra is not None,
        "EXPONENTIAL": kind == "exponential",
        "DIVIDED": kind != "pointwise",
        "TWO_SWEEPS": kind == "two sweeps",
        "EMPTY_IS_ZERO": form.empty == "zero",
        "ADJUSTED": bool(form.mask or form.alibi or form.softcap),
    }
    lines = [f"constexpr bool {name} = {str(value).lower()};" for name, value in truths.items()]
    lines += [
        f"constexpr int ROWS = {ROWS};",
        f"constexpr float FACTOR = {single(factor)};",
        f"constexpr float REMOVED = {'' if factor < 0.0 else '-'}__builtin_inff();",
    ]
    return "\n".join(lines) + "\n"


def loops_text(form: AttentionForm, isa: Isa) -> str:
    """The loops of a form."""
    return _WEIGHTS.replace("MAKE", _MAKE[form.function.kind]) + "\n" + _UNIT
