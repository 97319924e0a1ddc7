"""A row of Softmax in parts that others compute and combine.

A pair (m, s) with s = sum of e^(x - m) stands for a part of a row. Pairs combine as

    M = max of the m,   S = sum of s e^(m - M)

so the order of the parts and where they end do not matter but for rounding (M. Milakov and N. Gimelshein,
"Online normalizer calculation for softmax", arXiv 1805.02867, section 3.1). An algorithm with parts exports

    void SYMBOL_partial(const void* x, void* y, int64_t first, int64_t last, double* max_and_sum);
    void SYMBOL_finish(const void* x, void* y, int64_t first, int64_t last, const double* own,
                       const double* row);

for one row that begins at x and its result at y: the first gives the pair of the elements [first, last), the
second, with that pair and the pair of the whole row, makes those elements of y. Between the two y belongs to
the algorithm. A part in which all is masked has the pair (-FLT_MAX, 0), which is also that of no elements; a
NaN or +infinity makes the sum NaN. A combined pair is never a difference of infinities unless the row has
+infinity in it, and then NaN is right.
"""

from __future__ import annotations

# The largest element starts at the smallest finite number, so that -infinity minus it is -infinity and not
# NaN. A row of nothing else has the sum 0, and 0 / 0 is NaN as it should. NaN is in the sum.
BLOCKS = """\
INLINE double largest_of(const S* x, int64_t from, int64_t to) {
  Max m;
  m.a = all(-0x1.fffffep127f);
  int64_t i = from;
  for (; i + 4 * LANES <= to; i += 4 * LANES) {
    const V p = load(x + i), q = load(x + i + LANES);
    const V r = load(x + i + 2 * LANES), s = load(x + i + 3 * LANES);
    m.take(m.a, p); m.take(m.b, q); m.take(m.c, r); m.take(m.d, s);
  }
  for (; i + LANES <= to; i += LANES) m.take(m.a, load(x + i));
  if (i < to) m.take(m.b, pick(first_lanes(to - i), load_part(x + i, to - i), all(-__builtin_inff())));
  return m.value();
}

// the sum of e^(x - shift), each of which is also kept in y if that is wanted
template <bool KEPT>
INLINE double exponentials(const S* x, S* y, int64_t first, int64_t last, float number) {
  const V shift = all(number);
  double sum = 0.0;
  for (int64_t from = first, to; from < last; from = to) {
    to = last - from < BLOCK ? last : from + BLOCK;
    Sum t;
    int64_t i = from;
    for (; i + 4 * LANES <= to; i += 4 * LANES) {
      soon_read((uintptr_t)(x + i) + SOON);
      if (KEPT) soon_written((uintptr_t)(y + i) + SOON);
      const V p = exp_relative(load(x + i) - shift), q = exp_relative(load(x + i + LANES) - shift);
      const V r = exp_relative(load(x + i + 2 * LANES) - shift);
      const V s = exp_relative(load(x + i + 3 * LANES) - shift);
      if (KEPT) {
        store(y + i, p); store(y + i + LANES, q);
        store(y + i + 2 * LANES, r); store(y + i + 3 * LANES, s);
      }
      t.a += p; t.b += q; t.c += r; t.d += s;
    }
    for (; i + LANES <= to; i += LANES) {
      const V p = exp_relative(load(x + i) - shift);
      if (KEPT) store(y + i, p);
      t.b += p;
    }
    if (i < to) {
      const V p = exp_relative(load_part(x + i, to - i) - shift);
      if (KEPT) store_part(y + i, p, to - i);
      t.c += pick(first_lanes(to - i), p, V{});
    }
    sum += t.value();
  }
  return sum;
}
"""

MULTIPLY = """\
INLINE void multiply(S* y, int64_t from, int64_t to, double number) {
  const V factor = all((float)number);
  int64_t i = from;
  for (; i + 4 * LANES <= to; i += 4 * LANES) {
    const V p = load(y + i) * factor, q = load(y + i + LANES) * factor;
    const V r = load(y + i + 2 * LANES) * factor, s = load(y + i + 3 * LANES) * factor;
    store(y + i, p); store(y + i + LANES, q);
    store(y + i + 2 * LANES, r); store(y + i + 3 * LANES, s);
  }
  for (; i + LANES <= to; i += LANES) store(y + i, load(y + i) * factor);
  if (i < to) store_part(y + i, load_part(y + i, to - i) * factor, to - i);
}
"""

_PARTS = """\
extern "C" __attribute__((visibility("default")))
void SYMBOL_partial(const void* x, void* y, int64_t first, int64_t last, double* max_and_sum) {{
  (void)y;
  {partial}
}}

extern "C" __attribute__((visibility("default")))
void SYMBOL_finish(const void* x, void* y, int64_t first, int64_t last, const double* own,
                   const double* row) {{
  (void)x, (void)own;
  {finish}
}}
"""


def parts(partial: str, finish: str) -> str:
    """The exported functions around these statements."""
    return _PARTS.format(partial=partial, finish=finish)
