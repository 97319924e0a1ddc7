"""The derivative of each operation on numbers by its arguments, as an expression.

Where the value itself serves, it is used: exp' = exp, sigmoid' = sigmoid * (1 - sigmoid). At a corner the
derivative is the one from the left, which is 0 for max(x, 0) at 0, as torch has it; and so a function that is
smooth although its parts are not, such as max(x, 0) + log(1 + e^-|x|), keeps its derivative there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tautomer.codegen.expression import Expressions, Node
from tautomer.codegen.identities import simplified
from tautomer.errors import InputError


def derivatives(make: Expressions, node: Node) -> tuple[tuple[Node, Node], ...]:
    """(argument, derivative by it) for each argument that a value depends on smoothly.

    Raises:
        InputError: the derivative of the operation is not known.
    """
    if node.op not in _RULES:
        raise InputError(f"the derivative of {node.op} is not known", where="gradient")
    found = _RULES[node.op](_Shorthand(make), node)
    # a comparison has none
    return tuple((argument, d) for argument, d in zip(node.args, found, strict=True) if d is not None)


class _Shorthand:
    """Expressions in few letters."""

    def __init__(self, make: Expressions) -> None:
        self._make = make

    def __call__(self, op: str, *args: Node | float) -> Node:
        return simplified(self._make, op, *(self.lift(argument) for argument in args))

    def lift(self, value: Node | float) -> Node:
        return value if isinstance(value, Node) else self._make.number(value)

    def where(self, relation: str, a: Node, b: Node | float, yes: float, no: float) -> Node:
        """yes where a relation b, no elsewhere; where there is a NaN, no."""
        return self.chosen(self._make.node("compare", a, self.lift(b), name=relation), yes, no)

    def chosen(self, condition: Node, yes: float, no: float) -> Node:
        """yes where the condition holds, no elsewhere."""
        return self._make.node("where", condition, self.lift(yes), self.lift(no))


_Rule = Callable[[_Shorthand, Node], tuple[Node | None, ...]]


def _mul(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    a, b = y.args
    return b, a


def _div(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    b = y.args[1]
    return e("div", 1.0, b), e("neg", e("div", y, b))


def _rsqrt(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    return (e("mul", -0.5, e("mul", y, e("mul", y, y))),)


def _erf(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    (x,) = y.args
    return (e("mul", 2.0 / math.sqrt(math.pi), e("exp", e("neg", e("mul", x, x)))),)


def _tanh(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    return (e("sub", 1.0, e("mul", y, y)),)


def _tanh_softplus(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    return (e("mul", e("sub", 1.0, e("mul", y, y)), e("sigmoid", y.args[0])),)


def _abs(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    (x,) = y.args
    return (e.where(">", x, 0.0, 1.0, -1.0),)


def _maximum(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    a, b = y.args
    if a.uniform:
        return e.where("<=", b, a, 1.0, 0.0), e.where("<=", b, a, 0.0, 1.0)
    return e.where("<=", a, b, 0.0, 1.0), e.where("<=", a, b, 1.0, 0.0)


def _minimum(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    a, b = y.args
    if a.uniform:
        return e.where(">", b, a, 1.0, 0.0), e.where(">", b, a, 0.0, 1.0)
    return e.where(">", a, b, 0.0, 1.0), e.where(">", a, b, 1.0, 0.0)


def _where(e: _Shorthand, y: Node) -> tuple[Node | None, ...]:
    chosen = y.args[0]
    return None, e.chosen(chosen, 1.0, 0.0), e.chosen(chosen, 0.0, 1.0)


_RULES: dict[str, _Rule] = {
    "add": lambda e, y: (e.lift(1.0), e.lift(1.0)),
    "sub": lambda e, y: (e.lift(1.0), e.lift(-1.0)),
    "neg": lambda e, y: (e.lift(-1.0),),
    "mul": _mul,
    "div": _div,
    "exp": lambda e, y: (y,),
    "expm1": lambda e, y: (e("exp", y.args[0]),),
    "log": lambda e, y: (e("div", 1.0, y.args[0]),),
    "log1p": lambda e, y: (e("div", 1.0, e("add", 1.0, y.args[0])),),
    "sqrt": lambda e, y: (e("div", 0.5, y),),
    "rsqrt": _rsqrt,
    "erf": _erf,
    "one_plus_erf": _erf,
    "tanh": _tanh,
    "tanh_softplus": _tanh_softplus,
    "sigmoid": lambda e, y: (e("mul", y, e("sub", 1.0, y)),),
    "abs": _abs,
    "maximum": _maximum,
    "minimum": _minimum,
    "where": _where,
}
