"""Functions of float32 as Triton text, for what `triton.language` lacks or has only with cancellation.

All are made of its exponential and logarithm, which a GPU has as instructions, within about 2e-7 of the
result, and of polynomials. None needs a library beside the language, so that they run in its interpreter and
on every device. NaN goes through.
"""

from __future__ import annotations

from collections.abc import Collection

_SIGMOID = """\
@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(x * -1.4426950408889634))
"""

# the series to x^7 where e^x - 1 would cancel
_EXPM1 = """\
@triton.jit
def expm1(x):
    series = 1.0 / 5040.0 * x + 1.0 / 720.0
    series = (series * x + 1.0 / 120.0) * x + 1.0 / 24.0
    series = (series * x + 1.0 / 6.0) * x + 0.5
    return tl.where(tl.abs(x) < 0.5, (series * x) * x + x, tl.exp(x) - 1.0)
"""

# log(1 + x) = 2 artanh(s), s = x / (2 + x)
_LOG1P = """\
@triton.jit
def log1p(x):
    s = x / (2.0 + x)
    z = s * s
    series = (1.0 / 13.0 * z + 1.0 / 11.0) * z + 1.0 / 9.0
    series = (series * z + 1.0 / 7.0) * z + 1.0 / 5.0
    series = (series * z + 1.0 / 3.0) * z
    return tl.where(tl.abs(x) < 0.5, 2.0 * (series * s + s), tl.log(1.0 + x))
"""

_TANH = """\
@triton.jit
def tanh(x):
    z = x * x
    series = (62.0 / 2835.0 * z - 17.0 / 315.0) * z + 2.0 / 15.0
    series = (series * z - 1.0 / 3.0) * z
    size = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * tl.abs(x)))
    return tl.where(tl.abs(x) < 0.25, series * x + x, tl.where(x < 0.0, -size, size))
"""

# tanh(log(1 + e^x)) as a quotient in e = e^-|x|
_TANH_SOFTPLUS = """\
@triton.jit
def tanh_softplus(x):
    e = tl.exp(-tl.abs(x))
    positive = (1.0 + 2.0 * e) / (1.0 + 2.0 * e + 2.0 * e * e)
    negative = (e * e + 2.0 * e) / (e * e + 2.0 * e + 2.0)
    return tl.where(x < 0.0, negative, positive)
"""

# erfc(t) = e^-q(t) on t >= 0 with the q of `vector_math`: no cancellation for x << 0
_ONE_PLUS_ERF = """\
@triton.jit
def one_plus_erf(x):
    t = tl.minimum(tl.abs(x), 12.0)
    s = t * t
    even = (-1.3937133189756423e-05 * s - 6.13250071182847e-04) * s - 4.465321762836538e-05
    odd = (6.66454752717982e-07 * s + 1.2505246559157968e-04) * s + 1.5829105395823717e-03
    even = (even * s + 0.10279808938503265) * s + 1.128379225730896
    odd = (odd * s - 0.0192258283495903) * s + 0.6366174221038818
    e = tl.exp(-(odd * t + even) * t)
    return tl.where(x != x, x, tl.where(x > 0.0, 2.0 - e, e))
"""

# as numpy: NaN if either is
_MAXIMUM = """\
@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
"""

_MINIMUM = """\
@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
"""

_TEXTS = {
    "sigmoid": _SIGMOID,
    "expm1": _EXPM1,
    "log1p": _LOG1P,
    "tanh": _TANH,
    "tanh_softplus": _TANH_SOFTPLUS,
    "one_plus_erf": _ONE_PLUS_ERF,
    "maximum": _MAXIMUM,
    "minimum": _MINIMUM,
}
HELPERS = frozenset(_TEXTS)
"""The functions that are written out; any other is one of `triton.language`."""


def helper_text(names: Collection[str]) -> str:
    """The functions of these names, as part of a module that has imported triton and its language as tl."""
    return "\n\n".join(text for name, text in _TEXTS.items() if name in names)
