"""Which queries a unit of work has, and what they see, as C++ text.

A unit is some queries of the heads that share a key head, and the keys, or a part of them: the queries are
rows in the order [position][head], so that neighbours see nearly the same keys.
"""

from __future__ import annotations

_UNIT_ROWS = """\
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
  if (ALIBI) one.slope = call.slopes[head], one.position = (float)aligned;
  return one;
}

INLINE float extra_of(const Call& call, int64_t head) {
  return SINK ? call.sink[head] : 0.0f;
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
      PACK_QUERY
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
"""

_PACK_QUERY = "pack_query<R>(q, call.q_steps[3], call.depth, to);"


def rows_text(pairs: bool) -> str:
    """The units' rows; of tiles, q is packed as pairs where the products are of pairs."""
    packed = "if constexpr (R > 1) pack_query_pairs<R>(q, call.q_steps[3], call.depth, to);\n      else "
    return _UNIT_ROWS.replace("PACK_QUERY", (packed if pairs else "") + _PACK_QUERY)
