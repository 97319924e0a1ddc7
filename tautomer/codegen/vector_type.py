"""The vector type that kernels are written in, as C++ text: GCC's and Clang's vector extensions.

One text serves every instruction set: arithmetic, comparisons and selections on these types are plain C++
operators. What has no operator (roots, reductions across lanes) is here too.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

HEADERS = ("cstdint", "cstddef", "cstring", "cmath")

# GCC reads all intrinsics whatever the target: those of AVX-512 take longer than the rest of a kernel. It has
# them in parts, which want to be told that they are wanted.
_AVX2_HEADERS = """\
#ifdef __clang__
#include <immintrin.h>
#else
#define _IMMINTRIN_H_INCLUDED
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
#include <f16cintrin.h>
#endif
"""
_INTRINSICS = {"avx2": _AVX2_HEADERS, "avx512": "#include <immintrin.h>\n"}

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

// a number in the middle of the first elements of a row
INLINE float middle(V first, int64_t columns) {
  const int64_t count = columns < LANES ? columns : LANES;
  return total(pick(first_lanes(count), first, V{}) * (1.0f / (float)count));
}
"""

_MAX = """\
INLINE double larger(double a, double b) { return a != a || a > b ? a : b; }
{largest}
// NaN does not compare: it is passed over
struct Max {
  V a, b, c, d;
  INLINE Max() { a = b = c = d = all(-__builtin_inff()); }
  INLINE void take(V& most, V x) { most = x > most ? x : most; }
  INLINE double value() const {
    const V x = a > b ? a : b, y = c > d ? c : d;
    return largest(x > y ? x : y);
  }
};
"""

_MAX_OR_NAN = """\
struct MaxOrNan : Max {
  I nan = {};
  INLINE void take(V& most, V x) {
    Max::take(most, x);
    nan |= x != x;
  }
  INLINE double value() const {
    int32_t bad = 0;
    for (int i = 0; i < LANES; ++i) bad |= nan[i];
    return bad ? __builtin_nan("") : Max::value();
  }
};
"""


def vector_type(isa: Isa) -> str:
    """The types and what is needed everywhere."""
    return _TYPES.format(lanes=isa.lanes, numbering=", ".join(map(str, range(isa.lanes))))


def reductions(names: set[str], isa: Isa) -> str:
    """The accumulators of the reductions that occur."""
    total = _SUM.replace("{total}", _across(isa.lanes, "total", "{0} + {1}"))
    most = _MAX.replace("{largest}", _across(isa.lanes, "largest", "{0} > {1} ? {0} : {1}"))
    wanted = names | ({"Max"} if "MaxOrNan" in names else set())
    texts = (("Sum", total), ("Max", most), ("MaxOrNan", _MAX_OR_NAN))
    return "\n".join(text for name, text in texts if name in wanted)


def _across(lanes: int, name: str, both: str) -> str:
    """A function of all lanes: halves are joined until four are left."""
    lines, last, width = [f"INLINE float {name}(V a) {{"], "a", lanes // 2
    while width >= 4:
        lines += [
            f"  typedef float V{width} __attribute__((vector_size({4 * width})));",
            f"  V{width} low{width}, high{width};",
            f"  std::memcpy(&low{width}, &{last}, sizeof low{width});",
            f"  std::memcpy(&high{width}, (const char*)&{last} + sizeof low{width}, sizeof low{width});",
            f"  const V{width} s{width} = {both.format(f'low{width}', f'high{width}')};",
        ]
        last, width = f"s{width}", width // 2
    one, other = both.format(f"{last}[0]", f"{last}[2]"), both.format(f"{last}[1]", f"{last}[3]")
    return "\n".join(
        [*lines, f"  const float e = {one}, f = {other};", f"  return {both.format('e', 'f')};", "}", ""]
    )


def headers(isa: Isa) -> str:
    """The include lines."""
    return "".join(f"#include <{name}>\n" for name in HEADERS) + _INTRINSICS.get(isa.name, "")
