"""A definition, run on symbols instead of numbers: what comes out is the expression of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tautomer.codegen.expression import Expressions, Node
from tautomer.codegen.identities import simplified
from tautomer.errors import InputError, TautomerError
from tautomer.patterns.operation import FULL_OPERANDS, ROW_OPERANDS, Definition
from tautomer.patterns.rows import apply

_UNARY = ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "erf", "tanh", "sigmoid", "abs")


@dataclass(frozen=True)
class Program:
    """What a kernel has to compute.

    Attributes:
        result: the value of each element, or of each row where rows are folded.
        operands: the tensors after x, in order.
        parameters: the scalars, in order.
        rows: whether there are rows, and not only elements.
        folded: whether there is one result per row.
    """

    result: Node
    operands: tuple[str, ...]
    parameters: tuple[str, ...]
    rows: bool
    folded: bool


def unsupported(definition: Definition) -> str:
    """Why no kernel can be written for a definition; "" if one can."""
    try:
        trace(definition)
    except TautomerError as error:
        return error.what
    return ""


def trace(definition: Definition, operands: tuple[str, ...] | None = None) -> Program:
    """Runs a definition on symbols.

    Args:
        definition: the operation.
        operands: which of the operands are there; None for all.

    Raises:
        InputError: the definition uses what a kernel over rows cannot do, or has no such operand.
    """
    present = definition.operands if operands is None else operands
    for name in present:
        if name not in definition.operands:
            raise InputError(f"there is no operand {name}", where=definition.key)
    make = Expressions()
    m = _Symbolic(make)
    try:
        result = apply(
            definition,
            m,
            _Symbol(m, make.node("x")),
            axes=(-1,) if definition.rows else (),
            operands={name: _Symbol(m, make.node("operand", name=name)) for name in present},
            # symbols stand where Definition promises numbers
            parameters={name: _parameter(m, name) for name in definition.parameters},
        )
        node = m.lift(result)
    except (TypeError, AttributeError) as error:
        raise InputError(f"a kernel cannot do this: {error}", where=definition.key) from error
    folded = definition.rows == "folded"
    if folded and not node.uniform:
        raise InputError("the result is not one number per row", where=definition.key)
    if not definition.rows and node.level:
        raise InputError("a pointwise operation reduces nothing", where=definition.key)
    known = all(name in ROW_OPERANDS + FULL_OPERANDS for name in present)
    if not known or (not definition.rows and any(name in ROW_OPERANDS for name in present)):
        raise InputError("an operand has no shape that follows from its name", where=definition.key)
    return Program(node, present, tuple(definition.parameters), bool(definition.rows), folded)


def _parameter(m: _Symbolic, name: str) -> Any:
    return _Symbol(m, m.make.node("parameter", name=name))


class _Symbol:
    """A value that is not known yet; arithmetic on it makes larger expressions."""

    def __init__(self, m: _Symbolic, node: Node) -> None:
        self.m, self.node = m, node

    def __add__(self, other: Any) -> _Symbol:
        return self.m.op("add", self, other)

    def __radd__(self, other: Any) -> _Symbol:
        return self.m.op("add", other, self)

    def __sub__(self, other: Any) -> _Symbol:
        return self.m.op("sub", self, other)

    def __rsub__(self, other: Any) -> _Symbol:
        return self.m.op("sub", other, self)

    def __mul__(self, other: Any) -> _Symbol:
        return self.m.op("mul", self, other)

    def __rmul__(self, other: Any) -> _Symbol:
        return self.m.op("mul", other, self)

    def __truediv__(self, other: Any) -> _Symbol:
        return self.m.op("div", self, other)

    def __rtruediv__(self, other: Any) -> _Symbol:
        return self.m.op("div", other, self)

    def __neg__(self) -> _Symbol:
        return self.m.op("neg", self)


class _Extent:
    """The shape of a value, of which only the length of the row can be asked for."""

    def __init__(self, m: _Symbolic) -> None:
        self._m = m

    def __getitem__(self, axis: int) -> _Symbol:
        return _Symbol(self._m, self._m.make.node("count"))


class _Symbolic:
    """The mathematics whose values are symbols."""

    def __init__(self, make: Expressions) -> None:
        self.make = make

    def __getattr__(self, name: str) -> Any:
        if name in _UNARY:
            return lambda x: self.op(name, x)
        raise AttributeError(f"{name} of a value")

    def lift(self, value: Any) -> Node:
        return value.node if isinstance(value, _Symbol) else self.make.number(float(value))

    def op(self, op: str, *operands: Any) -> _Symbol:
        return _Symbol(self, simplified(self.make, op, *(self.lift(operand) for operand in operands)))

    def shape(self, x: Any) -> _Extent:
        return _Extent(self)

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> _Symbol:
        return _Symbol(self, self.make.node("sum", self._reduced(x, axes)))

    def amax(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> _Symbol:
        return _Symbol(self, self.make.node("max", self._reduced(x, axes)))

    def mean(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> _Symbol:
        # a mean and a sum of the same values share the sum
        return self.sum(x, axes, keepdims) / _Symbol(self, self.make.node("count"))

    def _reduced(self, x: Any, axes: tuple[int, ...]) -> Node:
        if axes != (-1,):
            raise TypeError("a reduction where there are no rows")
        node = self.lift(x)
        if node.uniform:
            raise TypeError("a reduction of what is the same for the whole row")
        return node

    def maximum(self, a: Any, b: Any) -> _Symbol:
        return self.op("maximum", a, b)

    def minimum(self, a: Any, b: Any) -> _Symbol:
        return self.op("minimum", a, b)

    def reciprocal(self, x: Any) -> _Symbol:
        return self.op("div", 1.0, x)

    def compare(self, relation: str, a: Any, b: Any) -> _Symbol:
        if relation not in ("<", "<=", ">", ">=", "=="):
            raise TypeError(f"the relation {relation}")
        return _Symbol(self, self.make.node("compare", self.lift(a), self.lift(b), name=relation))

    def where(self, condition: Any, a: Any, b: Any) -> _Symbol:
        chosen = self.lift(condition)
        if chosen.op != "compare":
            raise TypeError("a choice by what is no comparison")
        return _Symbol(self, self.make.node("where", chosen, self.lift(a), self.lift(b)))
