"""Functions on vectors, as C++ text: within 4 units in the last place unless a function says otherwise.

Polynomials are least squares fits, weighted towards the least largest relative error, with coefficients
rounded to float32. NaN goes through; the limits at the infinities and results that are denormal are right,
but for `exp_relative`: it is for elements of rows whose largest is e^0, and may be off by 2^-126 of that.
"""

from __future__ import annotations

from tautomer.codegen import exponentials
from tautomer.codegen.isa import Isa

# log(u + c): u = 2^k m with m in [sqrt(1/2), sqrt(2)); c, what was lost when u was rounded, joins m - 1
_LOG_OF = """\
INLINE V log_of(V u, V c) {
  const I tiny = u < 0x1p-126f;
  const V v = tiny ? u * 0x1p32f : u;
  const I bits = as_bits(v) - 0x3f3504f3, k = bits >> 23;
  const V m = as_float((bits & 0x7fffff) + 0x3f3504f3);
  const V n = __builtin_convertvector(k, V) - (tiny ? all(32.0f) : all(0.0f));
  const V f = (m - 1.0f) + (c != 0.0f ? c * as_float((127 - k) << 23) : c);
  const V g = f * f;  // even and odd powers apart: two short chains instead of a long one
  V even = 0x1.028022p-3f * g + 0x1.235e0ap-3f, odd = -0x1.2da1ccp-4f * g - 0x1.0e6350p-3f;
  even = (even * g + 0x1.9998b8p-3f) * g + 0x1.555564p-2f;
  odd = (odd * g - 0x1.546786p-3f) * g - 0x1.00023cp-2f;
  const V p = odd * f + even;
  V y = g * (p * f - 0.5f) + n * 0x1.7f7d1cp-20f;
  y = (y + f) + n * 0x1.62e4p-1f;
  const V edge = u == 0.0f ? all(-__builtin_inff()) : (u < 0.0f ? all(__builtin_nanf("")) : u);
  return ((u > 0.0f) & (u < __builtin_inff())) ? y : edge;
}
"""

_LOG = """\
INLINE V log(V x) { return log_of(x, V{}); }
"""

_LOG1P = """\
INLINE V log1p(V x) {
  const V u = x + 1.0f;
  const V lost = (x < 1.0f ? x - (u - 1.0f) : 1.0f - (u - x));
  // what is smaller than half a unit of 1 is its own logarithm, and keeps the sign of zero
  return u == 1.0f ? x : log_of(u, u < 0x1p25f ? lost : V{});
}
"""

_ABS = """\
INLINE V abs(V x) { return as_float(as_bits(x) & 0x7fffffff); }
INLINE V with_sign(V magnitude, V sign) {
  return as_float(as_bits(magnitude) | (as_bits(sign) & (int32_t)0x80000000));
}
"""

# On t >= 0, erfc(t) = e^-q(t); the fit is on [0, 4], and beyond it e^-q is below 2e-8 and falls.
_ERFC_EXPONENT = """\
INLINE V erfc_exponent(V t) {
  t = 12.0f < t ? all(12.0f) : t;
  const V s = t * t;  // even and odd powers apart: two short chains instead of a long one
  V even = -0x1.d3a710p-17f * s - 0x1.418508p-11f, odd = 0x1.65ccd8p-21f * s + 0x1.064108p-13f;
  even = even * s - 0x1.76940ep-15f;
  odd = odd * s + 0x1.9ef354p-10f;
  even = even * s + 0x1.a50f9cp-4f;
  odd = odd * s - 0x1.3afef8p-6f;
  even = even * s + 0x1.20dd76p+0f;
  odd = odd * s + 0x1.45f2b8p-1f;
  const V p = odd * t + even;
  return -(p * t);
}
"""

_ERF = """\
INLINE V erf(V x) { return with_sign(-expm1(erfc_exponent(abs(x))), x); }
"""

_ONE_PLUS_ERF = """\
// relative to 1 + erf(x) within 5e-6 down to x = -4, and to 2e-7 where x > -1
INLINE V one_plus_erf(V x) {
  const V e = exp_nonpositive(erfc_exponent(abs(x)));
  return x > 0.0f ? 2.0f - e : e;
}
"""

_SQRT = """\
INLINE V sqrt(V x) {{ {body} }}
"""

_SQRT_BODIES = {
    "avx512": "return (V)_mm512_sqrt_ps((__m512)x);",
    "avx2": "return (V)_mm256_sqrt_ps((__m256)x);",
}
_SQRT_PLAIN = "for (int i = 0; i < LANES; ++i) x[i] = __builtin_sqrtf(x[i]); return x;"

_RSQRT = """\
INLINE V rsqrt(V x) { return 1.0f / sqrt(x); }
"""

# As numpy: NaN if either is. A limit that is a number comes first, and then one comparison does it.
_MAXIMUM = """\
INLINE V at_least(float limit, V x) { return limit > x ? all(limit) : x; }
INLINE V maximum(V a, V b) { return a != a ? a : (a > b ? a : b); }
"""

_MINIMUM = """\
INLINE V at_most(float limit, V x) { return limit < x ? all(limit) : x; }
INLINE V minimum(V a, V b) { return a != a ? a : (a < b ? a : b); }
"""

_TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "reduction": (exponentials.REDUCTION, ()),
    "exp_nonpositive": (exponentials.EXP_NONPOSITIVE, ("reduction",)),
    "exp_relative": (exponentials.EXP_RELATIVE, ("exp_nonpositive",)),
    "exp": (exponentials.EXP, ("reduction",)),
    "expm1": (exponentials.EXPM1, ("reduction",)),
    "log_of": (_LOG_OF, ()),
    "log": (_LOG, ("log_of",)),
    "log1p": (_LOG1P, ("log_of",)),
    "abs": (_ABS, ()),
    "sigmoid": (exponentials.SIGMOID, ("abs", "exp_nonpositive")),
    "tanh_softplus": (exponentials.TANH_SOFTPLUS, ("abs", "exp_nonpositive")),
    "tanh": (exponentials.TANH, ("abs", "expm1")),
    "erfc_exponent": (_ERFC_EXPONENT, ()),
    "erf": (_ERF, ("abs", "expm1", "erfc_exponent")),
    "one_plus_erf": (_ONE_PLUS_ERF, ("abs", "exp_nonpositive", "erfc_exponent")),
    "sqrt": ("", ()),
    "rsqrt": (_RSQRT, ("sqrt",)),
    "maximum": (_MAXIMUM, ()),
    "minimum": (_MINIMUM, ()),
}

SHORT = frozenset({"exp_relative", "abs", "sqrt", "rsqrt", "maximum", "minimum"})
"""Functions that are a few operations: a processor overlaps those of several vectors by itself."""


def vector_math(names: set[str], isa: Isa) -> str:
    """The text of these functions and of what they use, in an order in which each is known before its use."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        wanted.add(name)
        waiting.extend(_TEXTS[name][1])
    return "\n".join(_text(name, isa) for name in _TEXTS if name in wanted)


def _text(name: str, isa: Isa) -> str:
    if name == "sqrt":
        return _SQRT.format(body=_SQRT_BODIES.get(isa.name, _SQRT_PLAIN))
    if isa.name == "avx512" and name in ("exp", "exp_nonpositive"):
        return exponentials.EXP_AVX512.format(name=name)
    if isa.name == "avx2" and name == "exp_relative":
        return exponentials.EXP_RELATIVE_AVX2
    return _TEXTS[name][0]
