"""How a unit of work goes over its keys, as C++ text.

It packs a block of keys once for all its tiles, and keeps for each row the sum of weighted values, and of
weights where these are divided by it. An exponential is taken of a score less the largest that the row had so
far; when a larger one comes, what was summed is multiplied by e^(old - new), which is exact but for rounding.
Blocks of keys that a mask removes for a whole tile are passed over.
"""

from __future__ import annotations

from tautomer.patterns.attention.form import AttentionForm

_WEIGHTS = """\
// Weights take the place of a tile's scores; of sums and what else is per row, the tile's own.
template <int R, bool LAST>
NOINLINE void make_weights(float* scores, int panels, const float* shift, const float* offset, Aligned* sums,
                           Aligned* most) {
  (void)shift, (void)offset, (void)most;
  for (int r = 0; r < R; ++r) {
    V sum{};
    for (int n = 0; n < panels * WIDTH; n += LANES) {
      Aligned* const at = (Aligned*)(scores + r * KEYS + n);
MAKE
    }
    sums[r] += sum;
  }
}
"""

_MAKE = {
    "exponential": """\
      const V w = exponential(*at - shift[r]);
      sum += w;
      *at = w;""",
    "pointwise": "      *at = weight(*at);",
    "summed": """\
      const V w = weight(*at);
      sum += w;
      *at = w;""",
    # relative to the largest, which no power of is infinite then
    "two sweeps": """\
      V w = weight(*at);
      if constexpr (LAST)
        w = second_weight(w * shift[r] - offset[r]);
      else
        most[r] = w > most[r] ? w : most[r];
      sum += w;
      *at = w;""",
}

_SWEEP = """\
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
PACK_BLOCK
    }
    for (int64_t t = 0; t < space.tiles; ++t) {
      const Tile& tile = space.extents[t];
      if (tile.end <= j || tile.begin >= j + count || tile.begin >= tile.end) continue;
      const int64_t seen = tile.end - j < count ? tile.end - j : count, row = t * R;
PASS_OVER
      const int panels = (int)((seen + WIDTH - 1) / WIDTH);
      const float start = SOFTCAP ? 0.0f : call.bias;
      float* const scores = space.scores;
      const float* const q = space.q + t * space.q_size(call);
      if (direct) {
        dots(q, k + j * ks[2], ks[2], seen, call.depth, start, call.scale, scores);
      } else {
SCORES
      }
      const bool ends = tile.inner_begin > j || tile.inner_end < j + panels * WIDTH;
      if (ADJUSTED || ends) adjust<R>(call, space.rows + row, j, scores, panels, ends);
      if (EXPONENTIAL) raise_top<R>(scores, panels, space, t, padded);
      make_weights<R, LAST>(scores, panels, space.shift + row, space.offset + row, space.sums + row,
                            space.most + row);
      float* const result = space.result + row * padded;
      if (LAST && direct) {
        add_rows(scores, v + j * vs[2], vs[2], seen, call.width, result);
      } else if (LAST) {
VALUES
      }
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
"""


# by numbers, and for tiles by pairs of bfloat16
_BLOCK = """\
      pack_keys(k + j * ks[2], ks[2], ks[3], count, call.depth, space.keys);
      if (LAST) pack_values(v + j * vs[2], vs[2], vs[3], count, call.width, space.values);
"""
_BLOCK_OF_PAIRS = """\
      pack_key_pairs(k + j * ks[2], ks[2], ks[3], count, call.depth, space.keys);
      if (LAST) pack_value_pairs(v + j * vs[2], vs[2], vs[3], count, call.width, space.values);
"""
_SCORES = """\
        scores_of<R>(q, space.keys, call.depth, start, call.scale, scores, panels);
"""
_SCORES_OF_PAIRS = """\
        scores_of_pairs<R>(q, space.keys, call.depth, start, call.scale, scores, panels);
"""
_VALUES = """\
        add_all_values<R>(scores, space.values, panels, result, vectors);
"""
_VALUES_OF_PAIRS = """\
        add_all_values_of_pairs<R>(scores, space.values, panels, result, vectors);
"""


def sweep_text(form: AttentionForm, pairs: bool = False) -> str:
    """A sweep over the keys, and what is between two of them."""
    passed_over = "      if (removed<R>(call, space.rows + row, space.top + row, j, seen)) continue;\n"
    sweep = _SWEEP.replace("PASS_OVER\n", passed_over if form.mask else "")
    for name, numbers, of_pairs in (
        ("PACK_BLOCK\n", _BLOCK, _BLOCK_OF_PAIRS),
        ("SCORES\n", _SCORES, _SCORES_OF_PAIRS),
        ("VALUES\n", _VALUES, _VALUES_OF_PAIRS),
    ):
        either = f"        if constexpr (R > 1) {{\n{of_pairs}        }} else {{\n{numbers}        }}\n"
        sweep = sweep.replace(name, either if pairs else numbers)
    return _WEIGHTS.replace("MAKE", _MAKE[form.function.kind]) + "\n" + sweep
