"""Arithmetic of two or more tensors that broadcast; integers stay integers."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import kind_of
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.semantics.table import meaning, older


def aligned(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """y as it meets x: below opset 7 the attribute `axis` says which axis of x is the first of y's."""
    if not older(call, 7) or call.get("axis") is None:
        return y
    kind = kind_of(m, y)
    rank, shape = len(kind.shape(x)), kind.shape(y)
    trailing = rank - int(call.get("axis")) % max(rank, 1) - len(shape)
    return kind.move(lambda a: a.reshape(shape + (1,) * trailing), y)


@meaning("Add")
def add(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """x + y."""
    return x + aligned(m, call, x, y)


@meaning("Sub")
def subtract(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """x - y."""
    return x - aligned(m, call, x, y)


@meaning("Mul")
def multiply(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """x * y."""
    return x * aligned(m, call, x, y)


@meaning("Div")
def divide(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """x / y; of integers the quotient rounded toward zero."""
    y = aligned(m, call, x, y)
    if m.is_value(x) or m.is_value(y):
        return x / y
    floor = np.floor_divide(x, y)
    inexact = (np.remainder(x, y) != 0) & ((x < 0) != (y < 0))
    return floor + inexact.astype(floor.dtype)


@meaning("Mod")
def modulo(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """The remainder of x / y: with fmod it has the sign of x, else that of y."""
    if not (m.is_value(x) or m.is_value(y)):
        return np.fmod(x, y) if call.get("fmod", 0) else np.remainder(x, y)
    quotient = x / y
    if call.get("fmod", 0):
        whole = m.sign(quotient) * m.floor(m.abs(quotient))
        beyond = x  # nothing of an infinite divisor fits
    else:
        whole = m.floor(quotient)
        beyond = m.where(
            m.compare("<", x, 0.0) == m.compare("<", y, 0.0), x, m.where(m.compare("==", x, 0.0), x, y)
        )
    return m.where(m.isinf(y) & ~(m.isinf(x) | m.isnan(x)), beyond, x - y * whole)


@meaning("Pow")
def power(m: Mathematics, call: Call, x: Any, y: Any) -> Any:
    """x to the power y, in the type of x."""
    y = aligned(m, call, x, y)
    if m.is_value(x):
        return m.power(x, y if m.is_value(y) else m.constant(y))
    if m.is_value(y):
        return np.power(np.asarray(x, np.float64), m.concrete(y)).astype(x.dtype)
    return np.power(x, y).astype(x.dtype)


@meaning("Neg")
def negate(m: Mathematics, call: Call, x: Any) -> Any:
    """-x."""
    return -x


@meaning("Sum")
def add_all(m: Mathematics, call: Call, *xs: Any) -> Any:
    """x0 + x1 + ..."""
    return reduce(lambda a, b: a + b, xs)


@meaning("Mean")
def mean_of_all(m: Mathematics, call: Call, *xs: Any) -> Any:
    """(x0 + x1 + ...) / n."""
    if not all(m.is_value(x) for x in xs):
        raise Unsupported("Mean", "of integers")
    return reduce(lambda a, b: a + b, xs) / float(len(xs))


@meaning("Max")
def maximum(m: Mathematics, call: Call, *xs: Any) -> Any:
    """The largest of x0, x1, ..."""
    return reduce(kind_of(m, *xs).maximum, xs)


@meaning("Min")
def minimum(m: Mathematics, call: Call, *xs: Any) -> Any:
    """The smallest of x0, x1, ..."""
    return reduce(kind_of(m, *xs).minimum, xs)
