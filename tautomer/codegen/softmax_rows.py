"""Softmax and its logarithm in two passes that compute each exponential once: long rows, out of cache.

Each block of the row is shifted by the largest element so far, which is known when the block is reached. Its
exponentials go straight into the result; when the maximum and the sum of the row are known, a block is
multiplied by one number. For rows that fit into a near cache the three passes of the definition are faster.
The logarithm, x - max - log(sum), needs the exponentials for the sum only and stores none.
"""

from __future__ import annotations

from tautomer.codegen.algorithms import Loops, row_algorithm
from tautomer.codegen.isa import Isa
from tautomer.codegen.softmax_parts import GATHER, PARTS
from tautomer.codegen.softmax_vectors import SOON
from tautomer.codegen.storage import AHEAD
from tautomer.codegen.trace import Program
from tautomer.codegen.vector_math import vector_math
from tautomer.codegen.vector_type import reductions

# The largest element so far starts at the smallest finite number: a block of masked elements, which are
# -infinity, then gives zeros and not NaN. A row of nothing else has the sum 0, and 0 / 0 is NaN as it should.
BY_BLOCKS = """\
constexpr int64_t MARKS = 512;
float largest_at[MARKS];  // by block, the shift of its exponentials
int64_t block = 1024;
while ((columns + block - 1) / block > MARKS) block *= 2;
double largest = -0x1.fffffep127, sum = 0.0;
for (int64_t from = 0, index = 0; from < columns; from += block, ++index) {
  const int64_t to = columns - from < block ? columns : from + block;
  Max m;
  int64_t i = from;
  for (; i + 4 * LANES <= to; i += 4 * LANES) {
    const V p = load(x_row + i), q = load(x_row + i + LANES);
    const V r = load(x_row + i + 2 * LANES), s = load(x_row + i + 3 * LANES);
    m.a = p > m.a ? p : m.a; m.b = q > m.b ? q : m.b;
    m.c = r > m.c ? r : m.c; m.d = s > m.d ? s : m.d;
  }
  for (; i + LANES <= to; i += LANES) {
    const V p = load(x_row + i);
    m.a = p > m.a ? p : m.a;
  }
  if (i < to) {
    const V p = pick(first_lanes(to - i), load_part(x_row + i, to - i), all(-__builtin_inff()));
    m.a = p > m.a ? p : m.a;
  }
  const double most = m.value();
  if (most > largest) {
    sum *= std::exp(largest - most);
    largest = most;
  }
  largest_at[index] = (float)largest;
  const V shift = all((float)largest);
  for (int64_t at = from; at < to; at += BLOCK) {
    const int64_t end = to - at < BLOCK ? to : at + BLOCK;
    Sum t;
    i = at;
    for (; i + 4 * LANES <= end; i += 4 * LANES) {
      soon_read((uintptr_t)(x_row + i) + SOON);
      soon_written((uintptr_t)(y_row + i) + SOON);
      const V p = exp_relative(load(x_row + i) - shift);
      const V q = exp_relative(load(x_row + i + LANES) - shift);
      const V r = exp_relative(load(x_row + i + 2 * LANES) - shift);
      const V s = exp_relative(load(x_row + i + 3 * LANES) - shift);
      store(y_row + i, p); store(y_row + i + LANES, q);
      store(y_row + i + 2 * LANES, r); store(y_row + i + 3 * LANES, s);
      t.a += p; t.b += q; t.c += r; t.d += s;
    }
    for (; i + LANES <= end; i += LANES) {
      const V p = exp_relative(load(x_row + i) - shift);
      store(y_row + i, p);
      t.a += p;
    }
    if (i < end) {
      const V p = exp_relative(load_part(x_row + i, end - i) - shift);
      store_part(y_row + i, p, end - i);
      t.a += pick(first_lanes(end - i), p, V{});
    }
    sum += t.value();
  }
}
for (int64_t from = 0, index = 0; from < columns; from += block, ++index) {
  const int64_t to = columns - from < block ? columns : from + block;
  const V factor = all((float)(std::exp((double)largest_at[index] - largest) / sum));
  int64_t i = from;
  for (; i + 4 * LANES <= to; i += 4 * LANES) {
    store(y_row + i, load(y_row + i) * factor);
    store(y_row + i + LANES, load(y_row + i + LANES) * factor);
    store(y_row + i + 2 * LANES, load(y_row + i + 2 * LANES) * factor);
    store(y_row + i + 3 * LANES, load(y_row + i + 3 * LANES) * factor);
  }
  for (; i + LANES <= to; i += LANES) store(y_row + i, load(y_row + i) * factor);
  if (i < to) store_part(y_row + i, load_part(y_row + i, to - i) * factor, to - i);
}
"""

_LOG_TEXT = """\
double largest, sum;
gather(x_row, 0, columns, largest, sum);
const V shift = all((float)largest), rest = all((float)std::log(sum));
int64_t i = 0;
for (; i + 4 * LANES <= columns; i += 4 * LANES) {
  const V p = (load(x_row + i) - shift) - rest, q = (load(x_row + i + LANES) - shift) - rest;
  const V r = (load(x_row + i + 2 * LANES) - shift) - rest, s = (load(x_row + i + 3 * LANES) - shift) - rest;
  store(y_row + i, p); store(y_row + i + LANES, q);
  store(y_row + i + 2 * LANES, r); store(y_row + i + 3 * LANES, s);
}
for (; i + LANES <= columns; i += LANES) store(y_row + i, (load(x_row + i) - shift) - rest);
if (i < columns) store_part(y_row + i, (load_part(x_row + i, columns - i) - shift) - rest, columns - i);
"""


@row_algorithm("Softmax", "block")
def softmax_by_blocks(program: Program, isa: Isa) -> Loops:
    """exp(x - max so far), block by block, then one factor for each block; also exports a row in parts."""
    return Loops(tuple(BY_BLOCKS.splitlines()), helpers=(*_helpers(isa), GATHER, PARTS))


@row_algorithm("LogSoftmax", "block")
def log_softmax_by_blocks(program: Program, isa: Isa) -> Loops:
    """The maximum and the sum block by block, then x - max - log(sum)."""
    return Loops(tuple(_LOG_TEXT.splitlines()), helpers=(*_helpers(isa), GATHER))


def _helpers(isa: Isa) -> tuple[str, ...]:
    return vector_math({"exp_relative"}, isa), reductions({"Sum", "Max"}, isa), AHEAD, SOON
