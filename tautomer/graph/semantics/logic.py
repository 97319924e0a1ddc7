"""Questions, answered with boolean arrays, and what is done with the answers and with bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arithmetic import aligned
from tautomer.graph.semantics.arrays import kind_of
from tautomer.graph.semantics.domain import Mathematics
from tautomer.graph.semantics.table import meaning


def _comparison(name: str, op: str) -> None:
    def apply(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
        return kind_of(m, x, y).compare(op, x, aligned(m, call, x, y))

    apply.__doc__ = f"x {op} y."
    meaning(name)(apply)


for _name, _op in (
    ("Less", "<"),
    ("LessOrEqual", "<="),
    ("Greater", ">"),
    ("GreaterOrEqual", ">="),
    ("Equal", "=="),
):
    _comparison(_name, _op)


def _of_bits(names: tuple[str, ...], function: Any) -> None:
    def apply(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
        return function(x, aligned(m, call, x, y))

    apply.__doc__ = f"{function.__name__}(x, y)."
    meaning(*names)(apply)


_of_bits(("And", "BitwiseAnd"), np.bitwise_and)
_of_bits(("Or", "BitwiseOr"), np.bitwise_or)
_of_bits(("Xor", "BitwiseXor"), np.bitwise_xor)


@meaning("Not", "BitwiseNot")
def complement(m: Mathematics, call: Call, x: Any) -> Any:
    """The opposite, bit by bit."""
    return np.invert(x)


@meaning("BitShift")
def shift(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """x shifted by y bits, to the LEFT or the RIGHT."""
    return np.left_shift(x, y) if call.attributes["direction"] == "LEFT" else np.right_shift(x, y)


@meaning("IsNaN")
def is_nan(m: Mathematics, call: Call, x: Any) -> Any:
    """Where x is not a number."""
    return m.isnan(x)


@meaning("IsInf")
def is_inf(m: Mathematics, call: Call, x: Any) -> Any:
    """Where x is infinite, of the signs that the attributes ask for."""
    infinite = m.isinf(x)
    if not call.get("detect_positive", 1):
        infinite &= m.compare("<", x, 0.0)
    if not call.get("detect_negative", 1):
        infinite &= m.compare(">", x, 0.0)
    return infinite
