"""The weights of one score function, as C++ text on vectors, from its definition.

Where the instruction set can look up powers of two by lane, the exponential is cheapest in units of 1 / LANES
of an octave. Scores are not kept in these units, though that is a step less to write: a score is then rounded
once more, as a whole, and not only as what it is below the largest.
"""

from __future__ import annotations

import math

from tautomer.codegen.cpp import Writer
from tautomer.codegen.isa import Isa
from tautomer.codegen.numbers_per_row import single
from tautomer.codegen.trace import trace
from tautomer.codegen.vector_math import vector_math
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.operation import Definition

_LOOKED_UP = {
    "avx2": "(I)_mm256_permutevar8x32_epi32((__m256i)powers, (__m256i)shifted)",
    "avx512": "(I)_mm512_permutexvar_epi32((__m512i)shifted, (__m512i)powers)",
}
_BOUNDED = {
    # NaN stays: these give their second argument then
    "avx2": (
        "(V)_mm256_max_ps((__m256)all({0}), (__m256)s)",
        "(V)_mm256_min_ps((__m256)all({0}), (__m256)s)",
    ),
    "avx512": (
        "(V)_mm512_max_ps((__m512)all({0}), (__m512)s)",
        "(V)_mm512_min_ps((__m512)all({0}), (__m512)s)",
    ),
}

# t = n + r in units of 1 / LANES of an octave, with |r| <= 1/2. The last bits of n choose the entry, in which
# they are subtracted, so that the sum of the two is 2^(n / LANES) with its exponent. At the lower end that is
# 0, at the upper infinity.
_POWERS = """\
struct Power {{
  V whole, part;  // e^(+-s) = whole * part
}};
INLINE Power power(V s) {{
  const I powers = {{{powers}}};
  constexpr float BASE = 0x1.8p23f + 127 * LANES;
  const V shifted = s * {units} + BASE, r = s * {units} - (shifted - BASE);
  const I entry = {looked_up};
  const V whole = as_float((as_bits(shifted) << {shift}) + entry);
  return {{whole, (({c3} * r + {c2}) * r + {c1}) * r + 1.0f}};
}}
"""
_EXPONENTIAL_LOOKED_UP = """\
// e^s of a score less the largest
INLINE V exponential(V s) {{
  s = {lower};
  const Power e = power(s);
  return e.whole * e.part;
}}
"""
_SIGMOID_LOOKED_UP = """\
// 1 / (1 + e^-s); what is below 2^-127 is 0
INLINE V weight(V s) {{
  s = {lower};
  s = {upper};
  const Power e = power(s);
  return 1.0f / (e.whole * e.part + 1.0f);
}}
"""
# What sums of weights are multiplied by when their scores' largest changes from one to the other.
_FALL = """\
INLINE V fall(float from, float to) {{ return {fall}; }}
"""
_EXPONENTIAL = """\
INLINE V exponential(V s) { return exp_nonpositive(s); }
"""


def weights_text(form: AttentionForm, isa: Isa) -> str:
    """`exponential`, or `weight` and `second_weight`, as the score function has them, and what they use."""
    functions: set[str] = set()
    if form.softcap:
        functions.add("tanh")
    if form.function.kind == "exponential":
        if isa.name in _LOOKED_UP:
            text = _looked_up(isa, 1.0) + _EXPONENTIAL_LOOKED_UP.format(lower=_bounded(isa, 0, -127.0))
        else:
            functions.add("exp_nonpositive")
            text = _EXPONENTIAL
    elif form.score == "sigmoid" and isa.name in _LOOKED_UP:
        bounds = {"lower": _bounded(isa, 0, -128.0), "upper": _bounded(isa, 1, 127.0)}
        text = _looked_up(isa, -1.0) + _SIGMOID_LOOKED_UP.format(**bounds)
    else:
        text = _traced("weight", Definition("weight", form.function.weight), functions)
    second = form.function.second
    if second is not None:
        definition = Definition("second weight", lambda m, x: second(m, x, form.power))
        text += _traced("second_weight", definition, functions)
    fall = (
        "exponential(all(from - to))"
        if form.function.kind == "exponential"
        else "(void)from, (void)to, all(1.0f)"
    )
    return vector_math(functions, isa) + text + _FALL.format(fall=fall)


def _traced(name: str, definition: Definition, functions: set[str]) -> str:
    """A pointwise function of one vector."""
    (root,) = trace(definition).results
    writer = Writer()
    lines = writer.elements([root])
    functions |= writer.functions
    body = "".join(f"  {line}\n" for line in lines)
    return f"INLINE V {name}(V x) {{\n{body}  return t{root.index};\n}}\n"


def _looked_up(isa: Isa, sign: float) -> str:
    """e^(sign * s), as two factors."""
    lanes, bits = isa.lanes, int(math.log2(isa.lanes))
    powers = (round(2.0 ** (23 + j / lanes)) - (1 << 23) - (j << (23 - bits)) for j in range(lanes))
    step = math.log(2.0) / lanes
    # of x^4 / 24, the nearest multiple of x^2 where |x| <= h: 2 (sqrt(2) - 1) h^2 x^2 / 24. A sixth is left,
    # so that the error is at most 2^-25.2 of 8 lanes and not 2^-22.7; rounding adds its own.
    fourth = 2.0 * (math.sqrt(2.0) - 1.0) * (step / 2.0) ** 2 / 24.0 * step**2
    return _POWERS.format(
        powers=", ".join(map(str, powers)),
        looked_up=_LOOKED_UP[isa.name],
        shift=23 - bits,
        units=single(sign / step),
        c1=single(step),
        c2=single(step**2 / 2.0 + fourth),
        c3=single(step**3 / 6.0),
    )


def _bounded(isa: Isa, side: int, octaves: float) -> str:
    """s from below or from above; where a bound is met, the number is 0 or infinite, as t is rounded."""
    return _BOUNDED[isa.name][side].format(single(octaves * math.log(2.0)))
