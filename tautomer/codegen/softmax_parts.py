"""The maximum of a row and the sum of its exponentials in one pass, and a row in parts that others combine.

A pair (m, s) with s = sum of e^(x - m) stands for a part of a row. Pairs combine as

    M = max of the m,   S = sum of s e^(m - M)

so the order of the parts and where they end do not matter but for rounding (M. Milakov and N. Gimelshein,
"Online normalizer calculation for softmax", arXiv 1805.02867, section 3.1). A text with PARTS exports

    void SYMBOL_partial(const void* x, int64_t first, int64_t last, double* max_and_sum);
    void SYMBOL_finish(const void* x, void* y, int64_t first, int64_t last, const double* max_and_sum);

for one row that begins at x: the first gives the pair of the elements [first, last), the second writes those
elements of the result, which begins at y, from the pair of the whole row. A caller gives the parts of a row
to threads, combines as above in double precision, and gives them out again. A part in which all is masked has
the pair (-FLT_MAX, 0), which is also that of no elements; a NaN or +infinity makes the sum NaN. A combined
pair is never a difference of infinities unless the row has +infinity in it, and then NaN is right.
"""

from __future__ import annotations

# A block is read for its maximum and again, from the nearest cache, for its exponentials. The largest element
# so far starts at the smallest finite number, so that -infinity minus it is -infinity and not NaN.
GATHER = """\
INLINE void gather(const S* x, int64_t first, int64_t last, double& largest, double& sum) {
  largest = -0x1.fffffep127;
  sum = 0.0;
  for (int64_t from = first, to; from < last; from = to) {
    to = last - from < BLOCK ? last : from + BLOCK;
    Max m;
    int64_t i = from;
    for (; i + 4 * LANES <= to; i += 4 * LANES) {
      const V p = load(x + i), q = load(x + i + LANES);
      const V r = load(x + i + 2 * LANES), s = load(x + i + 3 * LANES);
      m.a = p > m.a ? p : m.a; m.b = q > m.b ? q : m.b;
      m.c = r > m.c ? r : m.c; m.d = s > m.d ? s : m.d;
    }
    for (; i + LANES <= to; i += LANES) {
      const V p = load(x + i);
      m.a = p > m.a ? p : m.a;
    }
    V end = all(-__builtin_inff());
    if (i < to) {
      end = pick(first_lanes(to - i), load_part(x + i, to - i), end);
      m.a = end > m.a ? end : m.a;
    }
    const double most = m.value();
    if (most > largest) {
      sum *= std::exp(largest - most);
      largest = most;
    }
    const V shift = all((float)largest);
    Sum t;
    for (i = from; i + 4 * LANES <= to; i += 4 * LANES) {
      soon_read((uintptr_t)(x + i) + SOON);
      t.a += exp_relative(load(x + i) - shift);
      t.b += exp_relative(load(x + i + LANES) - shift);
      t.c += exp_relative(load(x + i + 2 * LANES) - shift);
      t.d += exp_relative(load(x + i + 3 * LANES) - shift);
    }
    for (; i + LANES <= to; i += LANES) t.b += exp_relative(load(x + i) - shift);
    if (i < to) t.c += pick(first_lanes(to - i), exp_relative(end - shift), V{});
    sum += t.value();
  }
}
"""

PARTS = """\
extern "C" __attribute__((visibility("default")))
void SYMBOL_partial(const void* x, int64_t first, int64_t last, double* max_and_sum) {
  gather((const S*)x, first, last, max_and_sum[0], max_and_sum[1]);
}

extern "C" __attribute__((visibility("default")))
void SYMBOL_finish(const void* x, void* y, int64_t first, int64_t last, const double* max_and_sum) {
  const S* const x_row = (const S*)x;
  S* const y_row = (S*)y;
  const V shift = all((float)max_and_sum[0]), factor = all((float)(1.0 / max_and_sum[1]));
  int64_t i = first;
  for (; i + 4 * LANES <= last; i += 4 * LANES) {
    soon_read((uintptr_t)(x_row + i) + SOON);
    const V p = exp_relative(load(x_row + i) - shift) * factor;
    const V q = exp_relative(load(x_row + i + LANES) - shift) * factor;
    const V r = exp_relative(load(x_row + i + 2 * LANES) - shift) * factor;
    const V s = exp_relative(load(x_row + i + 3 * LANES) - shift) * factor;
    store(y_row + i, p); store(y_row + i + LANES, q);
    store(y_row + i + 2 * LANES, r); store(y_row + i + 3 * LANES, s);
  }
  for (; i + LANES <= last; i += LANES)
    store(y_row + i, exp_relative(load(x_row + i) - shift) * factor);
  if (i < last) {
    const V p = exp_relative(load_part(x_row + i, last - i) - shift) * factor;
    store_part(y_row + i, p, last - i);
  }
}
"""
