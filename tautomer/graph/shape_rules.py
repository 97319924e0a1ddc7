"""The table of shape rules: from what is known of a node's inputs to the shapes of its outputs.

    @shape_rule("MatMul")
    def product(call, x):
        return [matrix_product(known(x, 0), known(x, 1))]

A rule gets the call and a fact per input (None for an input that is left out) and returns a shape per output,
None where it cannot tell. A rule that cannot tell at all raises; whoever asks falls back on something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.fact import Fact, Shape

Inputs = Sequence[Fact | None]
ShapeRule = Callable[[Call, Inputs], Sequence[Shape | None]]
TypeRule = Callable[[Call, Inputs], Sequence[ir.DataType | None]]

_SHAPES: dict[tuple[str, str], ShapeRule] = {}
_TYPES: dict[tuple[str, str], TypeRule] = {}


class Unknown(Exception):
    """A rule needs something that is not known."""


def shape_rule(*names: str, domain: str = "") -> Callable[[ShapeRule], ShapeRule]:
    """Registers the shape rule of operators."""

    def register(rule: ShapeRule) -> ShapeRule:
        for name in names:
            _SHAPES[domain, name] = rule
        return rule

    return register


def type_rule(*names: str, domain: str = "") -> Callable[[TypeRule], TypeRule]:
    """Registers the type rule of operators whose outputs have other types than the first input."""

    def register(rule: TypeRule) -> TypeRule:
        for name in names:
            _TYPES[domain, name] = rule
        return rule

    return register


@cache
def _load() -> None:
    """Imports every file of rules, once; importing is registering."""
    from tautomer.graph import element_types, shapes_of_movement, shapes_of_numbers  # noqa: F401


def shape_rule_of(domain: str, op_type: str) -> ShapeRule | None:
    """The shape rule of an operator, or None."""
    _load()
    return _SHAPES.get((domain, op_type))


def types_of(call: Call, x: Inputs) -> Sequence[ir.DataType | None]:
    """The element types of the outputs: those of a rule, else that of the first input for all."""
    _load()
    rule = _TYPES.get((call.domain, call.op_type))
    if rule is not None:
        return rule(call, x)
    first = x[0].dtype if x and x[0] is not None else None
    return [first] * call.outputs


def known(x: Inputs, i: int) -> Shape:
    """The shape of an input that a rule needs."""
    fact = x[i]
    if fact is None or fact.shape is None:
        raise Unknown
    return fact.shape


def given(x: Inputs, i: int) -> bool:
    """True when the optional input is there."""
    return i < len(x) and x[i] is not None


def numbers(call: Call, x: Inputs, name: str, i: int) -> list[int] | None:
    """Integers that are an input in newer opsets and an attribute in older ones."""
    if given(x, i):
        fact = x[i]
        if fact is None or fact.array is None:
            raise Unknown
        return [int(n) for n in fact.array.reshape(-1)]
    named: Any = call.get(name)
    return None if named is None else [int(n) for n in named]


def broadcast(first: Shape, *others: Shape) -> Shape:
    """The shape that shapes broadcast to."""
    result = first
    for shape in others:
        if shape == result or not shape:
            continue
        if len(shape) > len(result):
            shape, result = result, shape
        lead = len(result) - len(shape)
        sizes = list(result)
        for axis, size in enumerate(shape, lead):
            if size != sizes[axis] and size != 1:
                if sizes[axis] != 1:
                    raise ValueError(f"{first} and {others} do not broadcast")
                sizes[axis] = size
        result = tuple(sizes)
    return result
