"""Softmax in two passes over extended exponents, which needs no maximum.

M. Dukhan and A. Ablavatski, "The Two-Pass Softmax Algorithm" (arXiv 2001.04438): with n = round(x / ln 2) and
p = e^(x - n ln 2), the pair (p, n) stands for e^x = p 2^n and cannot overflow. Pairs are added as

    (p, n) + (q, k) = (p 2^(n - t) + q 2^(k - t), t),   t = max(n, k)

and with the sum (s, t) of the row the second pass writes p / s * 2^(n - t). Every exponential is computed
twice and the row is read twice and written once.

Domain. p has to be within rounding, so n times the first part of ln 2 has to be exact: always where there are
fused operations, and for |n| < 512 where there are none. ln 2 in two parts is 2^-44 off, which n multiplies:
2^-26 at |x| = 2^17. Elements are cut off below at -LIMIT and come out right, as 0, as long as the largest
element is far above that. So the largest exponent of a row, which the sum carries anyway, says whether the
row was in the domain: if not - masks of -1e9 among others still lower, all elements masked,
+infinity - the row is done by the block algorithm. NaN makes the sum NaN.
"""

from __future__ import annotations

from tautomer.codegen.algorithms import Loops, row_algorithm
from tautomer.codegen.isa import Isa
from tautomer.codegen.softmax.rows import BY_BLOCKS, by_blocks
from tautomer.codegen.softmax.vectors import greater
from tautomer.codegen.trace import Program

# scaled(p, n, origin(t)) is p 2^(n - t) for whole n - t up to 127, and 0 where that power is denormal.
_SCALED = """\
INLINE V origin(V t) { return t - (ROUNDING + 127.0f); }
INLINE V scaled(V p, V n, V origin) {
  return p * as_float(as_bits(greater(all(ROUNDING), n - origin)) << 23);
}
"""
_SCALED_AVX512 = """\
INLINE V origin(V t) { return t; }
INLINE V scaled(V p, V n, V origin) { return (V)_mm512_scalef_ps((__m512)p, (__m512)(n - origin)); }
"""

# 160 powers of two below the largest element are less than half of the smallest denormal number.
_PAIRS = """\
constexpr float LIMIT = {limit}.0f;
constexpr double FURTHEST = LIMIT * LOG2E - 160.0f;  // of the largest exponent, from 0

struct Pair {{ V p, n; }};
INLINE Pair extended_exp(V x) {{
  x = greater(all(-LIMIT), x);
  const V n = (x * LOG2E + ROUNDING) - ROUNDING;
  return {{exp_near_zero((x - n * LN2_HIGH) - n * LN2_LOW), n}};
}}
struct PairSum {{
  V p = {{}}, n = all(-0x1p22f);
  INLINE void add(Pair x) {{
    const V top = greater(x.n, n), o = origin(top);
    p = scaled(p, n, o) + scaled(x.p, x.n, o);
    n = top;
  }}
  INLINE void add(Pair x, Pair y, Pair z, Pair w) {{
    const V top = greater(greater(greater(x.n, y.n), greater(z.n, w.n)), n), o = origin(top);
    const V sum = (scaled(x.p, x.n, o) + scaled(y.p, y.n, o)) + (scaled(z.p, z.n, o) + scaled(w.p, w.n, o));
    p = scaled(p, n, o) + sum;
    n = top;
  }}
}};
"""

# Elements above LIMIT make what is no sum, but end the pass, too.
_TEXT = """\
double sum = 0.0, exponent = -0x1p22;
for (int64_t from = 0, to; from < columns && exponent <= FURTHEST; from = to) {
  to = columns - from < BLOCK ? columns : from + BLOCK;
  PairSum a;
  int64_t i = from;
  for (; i + 4 * LANES <= to; i += 4 * LANES) {
    soon_read((uintptr_t)(x_row + i) + SOON);
    a.add(extended_exp(load(x_row + i)), extended_exp(load(x_row + i + LANES)),
          extended_exp(load(x_row + i + 2 * LANES)), extended_exp(load(x_row + i + 3 * LANES)));
  }
  for (; i + LANES <= to; i += LANES) a.add(extended_exp(load(x_row + i)));
  if (i < to)
    a.add(extended_exp(pick(first_lanes(to - i), load_part(x_row + i, to - i), all(-__builtin_inff()))));
  Max m;
  m.a = a.n;
  const double high = m.value(), top = high > exponent ? high : exponent;
  if (top > FURTHEST) {
    exponent = top;
    continue;
  }
  const double here = total(scaled(a.p, a.n, origin(all((float)high))));
  sum = std::ldexp(sum, (int)(exponent - top)) + std::ldexp(here, (int)(high - top));
  exponent = top;
}
if (!(exponent <= FURTHEST && exponent >= -FURTHEST)) {
BY_BLOCKS
} else {
  // powers of two are 64 too large, so that only the last multiplication can have a denormal result
  const V o = origin(all((float)(exponent - 64.0))), factor = all((float)(0x1p-64 / sum));
  const auto result = [&](V x) INLINE_LAMBDA -> V {
    const Pair e = extended_exp(x);
    return scaled(e.p, e.n, o) * factor;
  };
  int64_t i = 0;
  for (; i + 4 * LANES <= columns; i += 4 * LANES) {
    soon_read((uintptr_t)(x_row + i) + SOON);
    const V p = result(load(x_row + i)), q = result(load(x_row + i + LANES));
    const V r = result(load(x_row + i + 2 * LANES)), s = result(load(x_row + i + 3 * LANES));
    store(y_row + i, p); store(y_row + i + LANES, q);
    store(y_row + i + 2 * LANES, r); store(y_row + i + 3 * LANES, s);
  }
  for (; i + LANES <= columns; i += LANES) store(y_row + i, result(load(x_row + i)));
  if (i < columns) store_part(y_row + i, result(load_part(x_row + i, columns - i)), columns - i);
}
"""


@row_algorithm("Softmax", "extended")
def softmax_extended(program: Program, isa: Isa) -> Loops:
    """e^x as (p, n) with e^x = p 2^n; by blocks the rows whose largest element is too far from 0."""
    fused = isa.name in ("avx512", "avx2")
    helpers = (
        *by_blocks(isa, {"reduction"}),
        greater(isa),
        _SCALED_AVX512 if isa.name == "avx512" else _SCALED,
        _PAIRS.format(limit=1 << 17 if fused else 352),
    )
    otherwise = "\n".join(f"  {line}" for line in BY_BLOCKS.splitlines())
    return Loops(tuple(_TEXT.replace("BY_BLOCKS", otherwise).splitlines()), helpers=helpers)
