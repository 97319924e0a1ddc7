"""The exponential and what is built on it, as C++ text; see `vector_math` for how exact they are."""

from __future__ import annotations

# x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to a whole number, which then lies in the low
# bits; the first part of ln 2 has so few bits that its product with n is exact without a fused operation too.
REDUCTION = """\
constexpr float ROUNDING = 0x1.8p23f, LOG2E = 0x1.715476p+0f;
constexpr float LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;

INLINE V exp_curve(V r) {  // (e^r - 1 - r) / r^2
  V p = 0x1.6b4752p-10f * r + 0x1.122a6cp-7f;
  p = p * r + 0x1.55574ep-5f;
  p = p * r + 0x1.5554acp-3f;
  return p * r + 0x1.fffffep-2f;
}
INLINE V exp_near_zero(V r) { return (exp_curve(r) * r + 1.0f) * r + 1.0f; }
"""

EXP_NONPOSITIVE = """\
// e^x for x <= 0; the power of two stays normal by a factor that is taken out again at the end
INLINE V exp_nonpositive(V x) {
  x = -104.0f > x ? all(-104.0f) : x;
  const V shifted = x * LOG2E + ROUNDING, n = shifted - ROUNDING;
  const V p = exp_near_zero((x - n * LN2_HIGH) - n * LN2_LOW);
  return p * as_float((as_bits(shifted) << 23) + ((127 + 64) << 23)) * 0x1p-64f;
}
"""

# x = n ln 2 / 8 + r with |r| <= ln 2 / 16, and 2^(n / 8) is looked up: half the operations that r up to
# ln 2 / 2 takes. The last three bits of n choose the entry, in which they are subtracted, so that the sum of
# the two is the power with its exponent. At the lower end n is 0, and the power is 0.
EXP_RELATIVE_AVX2 = """\
INLINE V exp_relative(V x) {
  const I powers = {POWERS};
  constexpr float EIGHTHS = 0x1.8p23f + 127 * 8;
  x = (V)_mm256_max_ps((__m256)all(-0x1.601e68p+6f), (__m256)x);  // NaN stays
  const V shifted = x * (8 * 0x1.715476p+0f) + EIGHTHS, r = x - (shifted - EIGHTHS) * 0x1.62e43p-4f;
  const I entry = (I)_mm256_permutevar8x32_epi32((__m256i)powers, (__m256i)shifted);
  const V power = as_float((as_bits(shifted) << 20) + entry);
  return ((0x1.554be4p-3f * r + 0x1.000844p-1f) * r * r + r) * power + power;
}
""".replace("POWERS", ", ".join(str(round(2.0 ** (23 + j / 8)) - (1 << 23) - (j << 20)) for j in range(8)))
EXP_RELATIVE = """\
INLINE V exp_relative(V x) { return exp_nonpositive(x); }
"""

EXP = """\
INLINE V exp(V x) {
  x = -104.0f > x ? all(-104.0f) : x;
  x = 89.0f < x ? all(89.0f) : x;
  const V shifted = x * LOG2E + ROUNDING, n = shifted - ROUNDING;
  const V p = exp_near_zero((x - n * LN2_HIGH) - n * LN2_LOW);
  const I whole = as_bits(shifted) - as_bits(all(ROUNDING)), half = whole >> 1;
  return p * as_float((half + 127) << 23) * as_float((whole - half + 127) << 23);
}
"""

EXP_AVX512 = """\
INLINE V {name}(V x) {{
  x = -104.0f > x ? all(-104.0f) : x;
  x = 89.0f < x ? all(89.0f) : x;
  const V shifted = x * LOG2E + ROUNDING, n = shifted - ROUNDING;
  const V p = exp_near_zero((x - n * LN2_HIGH) - n * LN2_LOW);
  return (V)_mm512_scalef_ps((__m512)p, (__m512)n);
}}
"""

EXPM1 = """\
// 2^n p + (2^n - 1), halved so that 2^128 can be told from infinity
INLINE V expm1(V x) {
  x = -18.0f > x ? all(-18.0f) : x;
  x = 89.0f < x ? all(89.0f) : x;
  const V shifted = x * LOG2E + ROUNDING, n = shifted - ROUNDING;
  const V r = (x - n * LN2_HIGH) - n * LN2_LOW, p = exp_curve(r) * r * r + r;
  const V half = as_float((as_bits(shifted) << 23) + (126 << 23));
  return (half * p + (half - 0.5f)) * 2.0f;
}
"""

SIGMOID = """\
INLINE V sigmoid(V x) {
  const V e = exp_nonpositive(-abs(x));
  return (x > 0.0f ? all(1.0f) : e) / (1.0f + e);
}
"""

# with e = e^-|x|, tanh(log(1 + e^x)) is a quotient of polynomials in it
TANH_SOFTPLUS = """\
INLINE V tanh_softplus(V x) {
  const V e = exp_nonpositive(-abs(x));
  const I right = x > 0.0f;
  const V part = right ? 1.0f + 2.0f * e : e * (e + 2.0f);
  return part / (part + (right ? 2.0f * e * e : all(2.0f)));
}
"""

TANH = """\
INLINE V tanh(V x) {
  const V t = expm1(-2.0f * abs(x));
  return with_sign(t / (-2.0f - t), x);
}
"""
