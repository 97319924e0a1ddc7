"""The sigmoid as Triton text: w = 1 / (1 + 2^x), x = -s * log2(e).

A multiprocessor of a GPU computes few special functions beside what its matrix units do: 16 in a cycle on a
Hopper, where the products of attention with a head dimension of 128 make 8 scores in a cycle. An exponential
and a reciprocal for each score take as long as both products. So there are forms with fewer of them:

    form         special functions per score   relative error of w, rounding apart
    division     2                              none; runs on every device
    reciprocal   2                              1 ulp of float32, by its instruction
    pair         1.5                            3 ulp; w is at least 2^-60
    quadruple    1.25                           5 ulp; w is at least 2^-31
    arithmetic   1                              3e-5; w is at least 2^-126
    polynomial   1                              8e-5; w is at least 2^-126
    tanh         1                              none is promised: an absolute error of 2^-11 is larger than w
                                                where the bias is -log n; never chosen, there to be measured
"""

from __future__ import annotations

_DIVISION = """\
@triton.jit
def weight(x):
    return 1.0 / (1.0 + tl.exp2(x))
"""

_RECIPROCAL = """\
@triton.jit
def weight(x):
    return tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=r,r", [1.0 + tl.exp2(x)], dtype=tl.float32, is_pure=True, pack=1
    )
"""

# 1/a = b / (a b), 1/b = a / (a b), for two scores of one thread; the product stays below 2^127
_PAIR = '''\
@triton.jit
def weight(x):
    return tl.inline_asm_elementwise(
        """{
        .reg .f32 a, b, c;
        min.ftz.f32 a, $2, 0f42700000;
        min.ftz.f32 b, $3, 0f42700000;
        ex2.approx.ftz.f32 a, a;
        ex2.approx.ftz.f32 b, b;
        add.ftz.f32 a, a, 0f3F800000;
        add.ftz.f32 b, b, 0f3F800000;
        mul.ftz.f32 c, a, b;
        rcp.approx.ftz.f32 c, c;
        mul.ftz.f32 $0, c, b;
        mul.ftz.f32 $1, c, a;
        }""",
        "=r,=r,r,r",
        [x],
        dtype=tl.float32,
        is_pure=True,
        pack=2,
    )
'''

# the same of two pairs
_QUADRUPLE = '''\
@triton.jit
def weight(x):
    return tl.inline_asm_elementwise(
        """{
        .reg .f32 a, b, c, d, ab, cd, r;
        min.ftz.f32 a, $4, 0f41F80000;
        min.ftz.f32 b, $5, 0f41F80000;
        min.ftz.f32 c, $6, 0f41F80000;
        min.ftz.f32 d, $7, 0f41F80000;
        ex2.approx.ftz.f32 a, a;
        ex2.approx.ftz.f32 b, b;
        ex2.approx.ftz.f32 c, c;
        ex2.approx.ftz.f32 d, d;
        add.ftz.f32 a, a, 0f3F800000;
        add.ftz.f32 b, b, 0f3F800000;
        add.ftz.f32 c, c, 0f3F800000;
        add.ftz.f32 d, d, 0f3F800000;
        mul.ftz.f32 ab, a, b;
        mul.ftz.f32 cd, c, d;
        mul.ftz.f32 r, ab, cd;
        rcp.approx.ftz.f32 r, r;
        mul.ftz.f32 cd, r, cd;
        mul.ftz.f32 ab, r, ab;
        mul.ftz.f32 $0, cd, b;
        mul.ftz.f32 $1, cd, a;
        mul.ftz.f32 $2, ab, d;
        mul.ftz.f32 $3, ab, c;
        }""",
        "=r,=r,=r,=r,r,r,r,r",
        [x],
        dtype=tl.float32,
        is_pure=True,
        pack=4,
    )
'''

# a number's bits, taken from a constant, are those of its reciprocal within 7 %; then 1/u = polynomial(u),
# u = d * guess, which is near 1
_ARITHMETIC = """\
@triton.jit
def weight(x):
    d = 1.0 + tl.exp2(tl.minimum(x, 126.0))
    guess = (0x7EEF370B - d.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)
    u = d * guess
    return guess * ((1.0590767458 * u - 3.1188225562) * u + 3.0597198751)
"""

# 2^x = 2^n 2^f, |f| <= 1/2: adding 1.5 * 2^23 rounds x to the whole number n, which goes into the exponent
_POLYNOMIAL = """\
@triton.jit
def weight(x):
    x = tl.maximum(tl.minimum(x, 126.0), -126.0)
    whole = x + 12582912.0
    f = x - (whole - 12582912.0)
    power = ((0.0551717673 * f + 0.2426115793) * f + 0.6932610090) * f + 0.9999280469
    bits = power.to(tl.int32, bitcast=True) + (whole.to(tl.int32, bitcast=True) << 23)
    d = 1.0 + bits.to(tl.float32, bitcast=True)
    return tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=r,r", [d], dtype=tl.float32, is_pure=True, pack=1
    )
"""

_TANH = """\
@triton.jit
def weight(x):
    return 0.5 + 0.5 * tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=r,r", [x * -0.34657359], dtype=tl.float32, is_pure=True, pack=1
    )
"""

SIGMOIDS = {
    "division": _DIVISION,
    "reciprocal": _RECIPROCAL,
    "pair": _PAIR,
    "quadruple": _QUADRUPLE,
    "arithmetic": _ARITHMETIC,
    "polynomial": _POLYNOMIAL,
    "tanh": _TANH,
}
PORTABLE = ("division", "arithmetic")
"""Those that need nothing of a particular device."""
SMALLEST = {"pair": 2.0**-60, "quadruple": 2.0**-31, "arithmetic": 2.0**-126, "polynomial": 2.0**-126}
"""The least weight of those that do not go down to 0: a removed key must not come to them as a score."""
