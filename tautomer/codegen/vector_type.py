"""The vector type that kernels are written in, as C++ text: GCC's and Clang's vector extensions.

One text serves every instruction set: arithmetic, comparisons and selections on these types are plain C++
operators. What has no operator (roots, reductions across lanes) is here too.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

HEADERS = ("cstdint", "cstddef", "cstring", "cmath")

_TYPES = """\
constexpr int LANES = {lanes};
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

// of so many elements at most, a sum is added up in float32
constexpr int64_t BLOCK = 2048;

INLINE V all(float value) {{ return value - V{{}}; }}
INLINE V as_float(I bits) {{ return (V)bits; }}
INLINE I as_bits(V value) {{ return (I)value; }}
INLINE V pick(I mask, V yes, V no) {{ return mask ? yes : no; }}

// the lanes that the last, partial vector of a row uses
INLINE I first_lanes(int64_t count) {{
  const I lane = {{{numbering}}};
  return lane < (int32_t)count;
}}
"""

# A sum adds four vectors in turn, so that no addition waits for the one before it, and goes over to double
# precision after every block: the error does not grow with the length of the row.
_SUM = """\
{total}
struct Sum {
  V a = {}, b = {}, c = {}, d = {};
  INLINE double value() const { return total((a + b) + (c + d)); }
};
"""

# The mean of a row far from 0 is subtracted from it: what float32 loses in the sum would be left over.
_WIDE_SUM = """\
typedef double W __attribute__((vector_size(4 * LANES)));
{halves}
struct Wide {{
  W low = {{}}, high = {{}};
  INLINE void operator+=(V x) {{
    low += low_half(x);
    high += high_half(x);
  }}
}};
struct WideSum {{
  Wide a, b, c, d;
  INLINE double value() const {{
    const W sums = ((a.low + b.low) + (c.low + d.low)) + ((a.high + b.high) + (c.high + d.high));
    double sum = 0.0;
    for (int i = 0; i < LANES / 2; ++i) sum += sums[i];
    return sum;
  }}
}};
"""

_HALVES = {
    "avx512": """\
INLINE W low_half(V x) { return (W)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x)); }
INLINE W high_half(V x) { return (W)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1)); }
""",
    "avx2": """\
INLINE W low_half(V x) { return (W)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x)); }
INLINE W high_half(V x) { return (W)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1)); }
""",
}
_HALVES_PLAIN = """\
INLINE W low_half(V x) {
  W y;
  for (int i = 0; i < LANES / 2; ++i) y[i] = x[i];
  return y;
}
INLINE W high_half(V x) {
  W y;
  for (int i = 0; i < LANES / 2; ++i) y[i] = x[i + LANES / 2];
  return y;
}
"""


_MAX = """\
INLINE double larger(double a, double b) { return a != a || a > b ? a : b; }

// NaN does not compare, so it is looked for apart
struct Max {
  V a, b, c, d;
  I nan = {};
  INLINE Max() { a = b = c = d = all(-__builtin_inff()); }
  INLINE void take(V& most, V x) {
    most = x > most ? x : most;
    nan |= x != x;
  }
  INLINE double value() const {
    const V x = a > b ? a : b, y = c > d ? c : d, z = x > y ? x : y;
    double most = z[0];
    bool bad = nan[0] != 0;
    for (int i = 1; i < LANES; ++i) {
      most = z[i] > most ? z[i] : most;
      bad = bad || nan[i] != 0;
    }
    return bad ? __builtin_nan("") : most;
  }
};
"""


def vector_type(isa: Isa) -> str:
    """The types and what is needed everywhere."""
    return _TYPES.format(lanes=isa.lanes, numbering=", ".join(map(str, range(isa.lanes))))


def reductions(names: set[str], isa: Isa) -> str:
    """The accumulators of the reductions that occur."""
    total = _SUM.replace("{total}", _total(isa.lanes))
    wide = _WIDE_SUM.format(halves=_HALVES.get(isa.name, _HALVES_PLAIN))
    texts = (("Sum", total), ("WideSum", wide), ("Max", _MAX))
    return "\n".join(text for name, text in texts if name in names)


def _total(lanes: int) -> str:
    """The sum of the lanes: halves are added until four are left."""
    lines, name, width = ["INLINE double total(V a) {"], "a", lanes // 2
    while width >= 4:
        lines += [
            f"  typedef float V{width} __attribute__((vector_size({4 * width})));",
            f"  V{width} low{width}, high{width};",
            f"  std::memcpy(&low{width}, &{name}, sizeof low{width});",
            f"  std::memcpy(&high{width}, (const char*)&{name} + sizeof low{width}, sizeof low{width});",
            f"  const V{width} s{width} = low{width} + high{width};",
        ]
        name, width = f"s{width}", width // 2
    lines += [f"  return ({name}[0] + {name}[2]) + ({name}[1] + {name}[3]);", "}", ""]
    return "\n".join(lines)


def headers(isa: Isa) -> str:
    """The include lines."""
    names = [*HEADERS, "immintrin.h"] if isa.name in ("avx2", "avx512") else [*HEADERS]
    return "".join(f"#include <{name}>\n" for name in names)
