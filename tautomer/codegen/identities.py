"""Identities that are applied while an expression is built: cheaper or better conditioned, and equal.

All hold for every number, infinities and NaN included, up to rounding and the sign of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tautomer.codegen.expression import Expressions, Node, number_in


def simplified(make: Expressions, op: str, *args: Node) -> Node:
    """The node of an operation on its arguments, in the form in which it is best computed."""
    rule = _RULES.get(op)
    better = rule(make, *args) if rule else None
    return better if better is not None else make.node(op, *args)


def _add(make: Expressions, a: Node, b: Node) -> Node | None:
    for one, other in ((a, b), (b, a)):
        if number_in(one) == 0.0:
            return other
        if number_in(one) == 1.0 and other.op == "tanh":
            # 1 + tanh(u) = 2 sigmoid(2u): no cancellation for u << 0, and one exponential
            doubled = simplified(make, "mul", make.number(2.0), other.args[0])
            return simplified(make, "mul", make.number(2.0), make.node("sigmoid", doubled))
        if number_in(one) == 1.0 and other.op == "erf":
            return make.node("one_plus_erf", *other.args)  # no cancellation for u << 0
    return None


def _sub(make: Expressions, a: Node, b: Node) -> Node | None:
    if number_in(b) == 0.0:
        return a
    return make.node("neg", b) if number_in(a) == 0.0 else None


def _mul(make: Expressions, a: Node, b: Node) -> Node | None:
    for one, other in ((a, b), (b, a)):
        if number_in(one) == 1.0:
            return other
    (left, x), (right, y) = _factor(a), _factor(b)
    if left == 1.0 or right == 1.0 or not (_power_of_two(left) or _power_of_two(right)):
        return None  # there is nothing to join, or joining the constants would round
    rest = x if y is None else y if x is None else simplified(make, "mul", x, y)
    constant = make.number(left * right)
    return constant if rest is None else simplified(make, "mul", constant, rest)


def _factor(node: Node) -> tuple[float, Node | None]:
    """The constant factor of a product and the rest of it; None for no rest."""
    if node.op == "number":
        return node.value, None
    if node.op == "mul":
        for one, other in (node.args, node.args[::-1]):
            if one.op == "number":
                return one.value, other
    return 1.0, node


def _power_of_two(factor: float) -> bool:
    return abs(math.frexp(factor)[0]) == 0.5


def _div(make: Expressions, a: Node, b: Node) -> Node | None:
    return a if number_in(b) == 1.0 else None


def _neg(make: Expressions, a: Node) -> Node | None:
    value = number_in(a)
    if value is not None:
        return make.number(-value)
    return a.args[0] if a.op == "neg" else None


def _tanh(make: Expressions, a: Node) -> Node | None:
    # tanh(max(x, 0) + log(1 + exp(-|x|))) = tanh(log(1 + e^x)) is a quotient in e^-|x|, without a logarithm
    if a.op == "add":
        for ramp, rest in (a.args, a.args[::-1]):
            x = _ramped(ramp)
            if x is not None:
                exponential = make.node("exp", make.node("neg", make.node("abs", x)))
                if rest is make.node("log1p", exponential):
                    return make.node("tanh_softplus", x)
    return None


def _ramped(node: Node) -> Node | None:
    """The x of max(x, 0)."""
    if node.op == "maximum":
        for limit, x in (node.args, node.args[::-1]):
            if number_in(limit) == 0.0 and not x.uniform:
                return x
    return None


_RULES: dict[str, Callable[..., Node | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "tanh": _tanh,
}
