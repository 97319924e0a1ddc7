"""A definition, run on symbols instead of numbers: what comes out is the expression of its result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tautomer.codegen.expression import Expressions, Node, number_in
from tautomer.codegen.identities import simplified
from tautomer.errors import InputError, TautomerError
from tautomer.graph.semantics.domain import Unsupported
from tautomer.patterns.operation import Definition
from tautomer.patterns.rows import apply_all
from tautomer.patterns.rowwise.places import place_names
from tautomer.patterns.rowwise.vocabulary import small_power

_WITHOUT_ROWS = ("full", "number")
# the nodes of operands that are not read element by element
_OPERANDS = {"column": "column", "number": "single"}
_ROOTS = {0.5: "sqrt", -0.5: "rsqrt"}
_UNARY = ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "erf", "tanh", "sigmoid", "abs")


@dataclass(frozen=True)
class Program:
    """What a kernel has to compute.

    Attributes:
        results: the value of each element, or of each row; one for each of the names.
        names: what the results are called.
        operands: the tensors after x, in order.
        kinds: how each of them goes with x, see `patterns.operation.kind_of`.
        parameters: the scalars, in order.
        rows: whether there are rows, and not only elements.
        per_row: the names of results that are one number per row.
        totals: the names of results that are added up over the rows, column by column, in float32.
    """

    results: tuple[Node, ...]
    names: tuple[str, ...]
    operands: tuple[str, ...]
    kinds: tuple[str, ...]
    parameters: tuple[str, ...]
    rows: bool
    per_row: tuple[str, ...] = ()
    totals: tuple[str, ...] = ()

    @property
    def folded(self) -> bool:
        """Whether all results are one number per row."""
        return self.per_row == self.names

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the whole numbers that say where operands have what goes with a row."""
        return place_names(self.operands, self.kinds)

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """The operands that go with x in this way."""
        return tuple(name for name, own in zip(self.operands, self.kinds, strict=True) if own == kind)


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
    kinds = tuple(definition.kind(name) for name in present)
    rows = bool(definition.rows) or any(name in definition.channels for name in present)
    if not all(kind in _WITHOUT_ROWS or (kind and rows) for kind in kinds):
        raise InputError("an operand has no shape that follows from its name", where=definition.key)
    if any(isinstance(value, tuple) for value in definition.parameters.values()):
        raise InputError("how many coefficients it has is up to the model", where=definition.key)
    make = Expressions()
    m = _Symbolic(make)
    try:
        found = apply_all(
            definition,
            m,
            _Symbol(m, make.node("x")),
            axes=(-1,) if definition.rows else (),
            operands={
                name: _Symbol(m, make.node(_OPERANDS.get(kind, "operand"), name=name))
                for name, kind in zip(present, kinds, strict=True)
            },
            # symbols stand where Definition promises numbers
            parameters={name: _parameter(m, name) for name in definition.parameters},
        )
        results = tuple(m.lift(result) for result in found)
    except (TypeError, AttributeError, ValueError, Unsupported) as error:
        raise InputError(f"a kernel cannot do this: {error}", where=definition.key) from error
    if any(node.op == "compare" for node in results):
        raise InputError("the result is a truth, not a number", where=definition.key)
    given = dict(zip(definition.results, results, strict=True))
    if not all(given[name].uniform for name in definition.per_row):
        raise InputError("the result is not one number per row", where=definition.key)
    if not definition.rows and any(node.level for node in results):
        raise InputError("a pointwise operation reduces nothing", where=definition.key)
    parameters = tuple(definition.parameters)
    return Program(results, definition.results, present, kinds, parameters, rows, definition.per_row)


def trace_function(compute: Callable[[Any, Any], Any]) -> Program:
    """Runs a function of one number, compute(m, x), on a symbol: a pointwise program with one result."""
    m = _Symbolic(Expressions())
    result = m.lift(compute(m, _Symbol(m, m.make.node("x"))))
    return Program((result,), ("y",), (), (), (), rows=False)


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
        nodes = [self.lift(operand) for operand in operands]
        if any(node.op == "compare" for node in nodes):
            raise TypeError("arithmetic on the result of a comparison")
        return _Symbol(self, simplified(self.make, op, *nodes))

    def is_value(self, x: Any) -> bool:
        return isinstance(x, _Symbol)

    def constant(self, x: Any) -> _Symbol:
        return _Symbol(self, self.make.number(float(x)))

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
        if node.op == "compare":
            raise TypeError("a reduction of the result of a comparison")
        if node.uniform:
            raise TypeError("a reduction of what is the same for the whole row")
        return node

    def maximum(self, a: Any, b: Any) -> _Symbol:
        return self.op("maximum", a, b)

    def minimum(self, a: Any, b: Any) -> _Symbol:
        return self.op("minimum", a, b)

    def isinf(self, x: Any) -> _Symbol:
        return self.compare("==", self.op("abs", x), math.inf)

    def power(self, x: Any, exponent: Any) -> _Symbol:
        number = number_in(self.lift(exponent))
        if number in _ROOTS:
            return self.op(_ROOTS[number], x)
        if number is None or not small_power(number):
            raise TypeError("a power that is no small whole number")
        result: _Symbol | None = None
        square, left = _Symbol(self, self.lift(x)), int(abs(number))
        while left:
            if left % 2:
                result = square if result is None else result * square
            square, left = square * square, left // 2
        assert result is not None
        return result if number > 0 else self.reciprocal(result)

    def reciprocal(self, x: Any) -> _Symbol:
        return self.op("div", 1.0, x)

    def compare(self, relation: str, a: Any, b: Any) -> _Symbol:
        if relation not in ("<", "<=", ">", ">=", "=="):
            raise TypeError(f"the relation {relation}")
        return _Symbol(self, self.make.node("compare", self.lift(a), self.lift(b), name=relation))

    def isnan(self, x: Any) -> _Symbol:
        value = self.lift(x)
        return _Symbol(self, self.make.node("compare", value, value, name="!="))

    def where(self, condition: Any, a: Any, b: Any) -> _Symbol:
        chosen, yes, no = self.lift(condition), self.lift(a), self.lift(b)
        if chosen.op != "compare" or "compare" in (yes.op, no.op):
            raise TypeError("a choice by what is no comparison")
        return _Symbol(self, self.make.node("where", chosen, yes, no))
