"""Numbers as C++: typed literals, and functions of values per row, which are in double precision."""

from __future__ import annotations

import math

import numpy as np

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
# Names of functions on numbers; the others are those of <cmath>.
_NAMES = {"abs": "std::fabs", "maximum": "larger_of", "minimum": "smaller_of", "sigmoid": "sigmoid_of"}
_HELPERS = {
    "maximum": "INLINE double larger_of(double a, double b) { return a != a || a > b ? a : b; }\n",
    "minimum": "INLINE double smaller_of(double a, double b) { return a != a || a < b ? a : b; }\n",
    "sigmoid": "INLINE double sigmoid_of(double x) { return 1.0 / (1.0 + std::exp(-x)); }\n",
    "low": """\
// what rounding to float32 took away; nothing where that is infinity or NaN
INLINE float low_part(double x) {
  const float low = (float)(x - (double)(float)x);
  return low - low == 0.0f ? low : 0.0f;
}
""",
}
_FORMS = {
    "neg": "-{0}",
    "rsqrt": "1.0 / std::sqrt({0})",
    "one_plus_erf": "std::erfc(-{0})",
    "where": "{0} ? {1} : {2}",
}


def single(value: float) -> str:
    """A number as a typed literal of float32."""
    with np.errstate(over="ignore"):
        return _literal(float(np.float32(value)), "f")


def double(value: float) -> str:
    """A number as a typed literal of double precision."""
    return _literal(value, "")


def _literal(value: float, suffix: str) -> str:
    if math.isnan(value):
        return f'__builtin_nan{suffix}("")'
    if math.isinf(value):
        return f"{'-' if value < 0 else ''}__builtin_inf{suffix}()"
    head, exponent = value.hex().split("p")
    whole, dot, digits = head.partition(".")
    digits = digits.rstrip("0")
    return f"{whole}{dot if digits else ''}{digits}p{exponent}{suffix}"


def computed(op: str, relation: str, args: list[str]) -> str:
    """What an operation does to values per row.

    Args:
        op: the operation.
        relation: of a comparison.
        args: the texts of the values.
    """
    if op in INFIX or op == "compare":
        return f"{args[0]} {INFIX.get(op, relation)} {args[1]}"
    if op in _FORMS:
        return _FORMS[op].format(*args)
    return f"{_NAMES.get(op, f'std::{op}')}({', '.join(args)})"


def helpers_of(op: str) -> set[str]:
    """Names for `scalar_helpers` that an operation on values per row uses."""
    return {op} & set(_HELPERS)


def scalar_helpers(names: set[str]) -> str:
    """The text of the functions on numbers that are not in <cmath>."""
    return "\n".join(text for name, text in _HELPERS.items() if name in names)
