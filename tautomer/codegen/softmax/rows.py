"""Softmax and its logarithm in two passes that compute each exponential once: long rows, out of cache.

Each block of the row is shifted by the largest element so far, which is known when the block is reached. Its
exponentials go straight into the result; when the maximum and the sum of the row are known, a block is
multiplied by one number. For rows that fit into a near cache the three passes of the definition are faster.
The logarithm, x - max - log(sum), needs the exponentials for the sum only and stores none.
"""

from __future__ import annotations

from collections.abc import Collection

from tautomer.codegen.algorithms import Loops, row_algorithm
from tautomer.codegen.isa import Isa
from tautomer.codegen.softmax.parts import BLOCKS, MULTIPLY, parts
from tautomer.codegen.softmax.vectors import SOON
from tautomer.codegen.storage import AHEAD
from tautomer.codegen.trace import Program
from tautomer.codegen.vector_math import vector_math
from tautomer.codegen.vector_type import reductions

BY_BLOCKS = """\
constexpr int64_t MARKS = 512;
float largest_at[MARKS];  // by block, the shift of its exponentials
int64_t block = 1024;
while ((columns + block - 1) / block > MARKS) block *= 2;
double largest = -0x1.fffffep127, sum = 0.0;
for (int64_t from = 0, index = 0; from < columns; from += block, ++index) {
  const int64_t to = columns - from < block ? columns : from + block;
  const double most = largest_of(x_row, from, to);
  if (most > largest) {
    sum *= std::exp(largest - most);
    largest = most;
  }
  largest_at[index] = (float)largest;
  sum += exponentials<true>(x_row, y_row, from, to, (float)largest);
}
for (int64_t from = 0, index = 0; from < columns; from += block, ++index) {
  const int64_t to = columns - from < block ? columns : from + block;
  multiply(y_row, from, to, std::exp((double)largest_at[index] - largest) / sum);
}
"""

_LOG_TEXT = """\
double largest = -0x1.fffffep127, sum = 0.0;
for (int64_t from = 0, to; from < columns; from = to) {
  to = columns - from < BLOCK ? columns : from + BLOCK;
  const double most = largest_of(x_row, from, to);
  if (most > largest) {
    sum *= std::exp(largest - most);
    largest = most;
  }
  sum += exponentials<false>(x_row, nullptr, from, to, (float)largest);
}
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


@row_algorithm("Softmax", "block", parts=True)
def softmax_by_blocks(program: Program, isa: Isa) -> Loops:
    """exp(x - max so far), block by block, then one factor for each block; a part is a block of its own."""
    in_parts = parts(
        "max_and_sum[0] = largest_of((const S*)x, first, last);\n"
        "  max_and_sum[1] = exponentials<true>((const S*)x, (S*)y, first, last, (float)max_and_sum[0]);",
        "multiply((S*)y, first, last, std::exp(own[0] - row[0]) / row[1]);",
    )
    return Loops(tuple(BY_BLOCKS.splitlines()), helpers=(*by_blocks(isa), in_parts))


@row_algorithm("LogSoftmax", "block")
def log_softmax_by_blocks(program: Program, isa: Isa) -> Loops:
    """The maximum and the sum block by block, then x - max - log(sum)."""
    return Loops(tuple(_LOG_TEXT.splitlines()), helpers=(*_helpers(isa), BLOCKS))


def by_blocks(isa: Isa, functions: Collection[str] = ()) -> tuple[str, ...]:
    """What the statements `BY_BLOCKS` use, and functions on vectors beside it."""
    return (*_helpers(isa, functions), BLOCKS, MULTIPLY)


def _helpers(isa: Isa, functions: Collection[str] = ()) -> tuple[str, ...]:
    return vector_math({"exp_relative", *functions}, isa), reductions({"Sum", "Max"}, isa), AHEAD, SOON
