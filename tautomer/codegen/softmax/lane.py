"""Softmax in two passes that only reads the row in the first: rows that are longer than the caches.

The first pass keeps for each lane of the vectors a shift m and the sum s of e^(x - m) over what the lane has
seen: the online normaliser of M. Milakov and N. Gimelshein (arXiv 1805.02867, algorithm 3), once per lane. A
lane is brought to a new maximum, s <- s e^(m - m'), only when an element is more than SLACK above m, so the
branch is hardly ever taken after the first step, and the loop over it has no chain of exponentials. A sum
relative to a shift that is e^SLACK too small is as exact as any: what overflows is far away, and SLACK is so
small that the rounding of x - m, half a unit of 4, stays near that of the exponential.

The second pass writes e^(x - m) / s, past the caches where the instruction set can. The row is read twice and
written once, which is the least there is for a row that no cache holds.
"""

from __future__ import annotations

from tautomer.codegen.algorithms import Loops, row_algorithm
from tautomer.codegen.isa import Isa
from tautomer.codegen.softmax.parts import parts
from tautomer.codegen.softmax.vectors import SOON, any_lane, greater
from tautomer.codegen.storage import AHEAD, fence, streams
from tautomer.codegen.trace import Program
from tautomer.codegen.vector_math import vector_math
from tautomer.codegen.vector_type import reductions

# Shifts start at the smallest finite number, so that -infinity minus a shift is -infinity and not NaN. NaN
# does not compare and raises nothing, but is in the sum. Where numbers are so large that SLACK is rounded up,
# it is to 32 at most, and exp_relative is right up to 43.
_TEXT = """\
constexpr float SLACK = 4.0f;
INLINE void by_lanes(const S* x, int64_t first, int64_t last, double& largest, double& sum) {
  V most = all(-0x1.fffffep127f), limit = most + SLACK;  // by lane
  largest = -0x1.fffffep127;
  sum = 0.0;
  for (int64_t from = first, to; from < last; from = to) {
    to = last - from < BLOCK ? last : from + BLOCK;
    Sum t;
    const auto seen = [&](V x) INLINE_LAMBDA {
      if (__builtin_expect(any(x > limit), 0)) {
        const V higher = greater(x, most), factor = exp_relative(most - higher);
        t.a *= factor; t.b *= factor; t.c *= factor; t.d *= factor;
        most = higher;
        limit = most + SLACK;
      }
    };
    int64_t i = from;
    for (; i + 4 * LANES <= to; i += 4 * LANES) {
      soon_read((uintptr_t)(x + i) + SOON);
      const V p = load(x + i), q = load(x + i + LANES);
      const V r = load(x + i + 2 * LANES), s = load(x + i + 3 * LANES);
      seen(greater(greater(p, q), greater(r, s)));
      t.a += exp_relative(p - most); t.b += exp_relative(q - most);
      t.c += exp_relative(r - most); t.d += exp_relative(s - most);
    }
    for (; i + LANES <= to; i += LANES) {
      const V p = load(x + i);
      seen(p);
      t.a += exp_relative(p - most);
    }
    if (i < to) {
      const I there = first_lanes(to - i);
      const V p = pick(there, load_part(x + i, to - i), all(-__builtin_inff()));
      seen(p);
      t.a += pick(there, exp_relative(p - most), V{});
    }
    Max m;
    m.a = most;
    const double high = m.value();
    if (high > largest) {
      sum *= std::exp(largest - high);
      largest = high;
    }
    sum += total(((t.a + t.b) + (t.c + t.d)) * exp_relative(most - all((float)largest)));
  }
}
INLINE void past_the_caches(const S* x, S* y, int64_t first, int64_t last, double largest, double sum) {
  const V shift = all((float)largest), factor = all((float)(1.0 / sum));
  const auto result = [&](V x) INLINE_LAMBDA -> V { return exp_relative(x - shift) * factor; };
  const int64_t before = before_aligned(y + first);
  const bool streamed = before >= 0;
  int64_t i = first;
  const int64_t head = before < last - first ? before : last - first;
  if (head > 0) {
    store_part(y + i, result(load_part(x + i, head)), head);
    i += head;
  }
  for (; i + 4 * LANES <= last; i += 4 * LANES) {
    soon_read((uintptr_t)(x + i) + SOON);
    const V p = result(load(x + i)), q = result(load(x + i + LANES));
    const V r = result(load(x + i + 2 * LANES)), s = result(load(x + i + 3 * LANES));
    put(streamed, y + i, p); put(streamed, y + i + LANES, q);
    put(streamed, y + i + 2 * LANES, r); put(streamed, y + i + 3 * LANES, s);
  }
  for (; i + LANES <= last; i += LANES) put(streamed, y + i, result(load(x + i)));
  if (i < last) store_part(y + i, result(load_part(x + i, last - i)), last - i);
}
"""

_ROW = """\
double largest, sum;
by_lanes(x_row, 0, columns, largest, sum);
past_the_caches(x_row, y_row, 0, columns, largest, sum);
"""


@row_algorithm("Softmax", "lane", parts=True)
def softmax_by_lanes(program: Program, isa: Isa) -> Loops:
    """A running maximum and a sum per lane, then e^(x - max) / sum past the caches."""
    helpers = (
        vector_math({"exp_relative"}, isa),
        reductions({"Sum", "Max"}, isa),
        AHEAD,
        SOON,
        streams("float32", isa),
        greater(isa),
        any_lane(isa),
        _TEXT,
        parts(
            "by_lanes((const S*)x, first, last, max_and_sum[0], max_and_sum[1]);",
            "\n  ".join(("past_the_caches((const S*)x, (S*)y, first, last, row[0], row[1]);", *fence(isa))),
        ),
    )
    return Loops(tuple(_ROW.splitlines()), at_end=fence(isa), helpers=helpers)
