"""Numbers for the symbolic sizes of a model's inputs."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx_ir as ir

_FIRST_PRIME = 13  # above every small number that a graph is likely to contain
_LONGEST_EXPRESSION = 200  # the text comes from a file: no deep recursion over it
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def bind_symbols(model: ir.Model) -> dict[str, int]:
    """Chooses a number for every symbolic size of the inputs of the main graph.

    Names get distinct primes in order of appearance, so that no size can be mistaken for another or for a
    product of others. A size that is written as an expression of other sizes, such as "past + sequence",
    gets its value. An unnamed size is one of its own, called "input[axis]".
    """
    symbols: list[str] = []
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int):
                symbols.append(size.value or unnamed(value, axis))
            elif size < 0:  # some writers' way to say that it is open
                symbols.append(unnamed(value, axis))
    distinct = list(dict.fromkeys(symbols))
    names = set(distinct)
    derived = {s for s in distinct if (parts := _names(s)) is not None and s not in parts and parts <= names}
    primes = _primes()
    sizes = {symbol: next(primes) for symbol in distinct if symbol not in derived}
    for symbol in distinct:
        if symbol in derived:
            value_of = size_of(symbol, sizes)
            sizes[symbol] = value_of if value_of is not None and value_of > 0 else next(primes)
    return sizes


def unnamed(value: ir.Value, axis: int) -> str:
    """The key of an input's size that has no name."""
    return f"{value.name}[{axis}]"


def size_of(symbol: str, sizes: Mapping[str, int]) -> int | None:
    """The number of a symbol or of an expression of symbols; None when it has none."""
    if symbol in sizes:
        return sizes[symbol]
    tree = _parse(symbol)
    return None if tree is None else _value(tree, sizes)


def _primes() -> Iterator[int]:
    candidate = _FIRST_PRIME
    while True:
        if all(candidate % divisor for divisor in range(2, int(candidate**0.5) + 1)):
            yield candidate
        candidate += 1


def _parse(symbol: str) -> ast.expr | None:
    if len(symbol) > _LONGEST_EXPRESSION:
        return None
    try:
        return ast.parse(symbol, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _names(symbol: str) -> set[str] | None:
    """The names in an arithmetic expression; None when it is none."""
    tree = _parse(symbol)
    if tree is None:
        return None
    nodes = list(ast.walk(tree))
    known: tuple[Any, ...] = (ast.BinOp, ast.Name, ast.Constant, ast.operator, ast.expr_context)
    if not all(isinstance(node, known) for node in nodes):
        return None
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _value(tree: ast.expr, sizes: Mapping[str, int]) -> int | None:
    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return tree.value
    if isinstance(tree, ast.Name):
        return sizes.get(tree.id)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        left, right = _value(tree.left, sizes), _value(tree.right, sizes)
        if left is None or right is None or (right == 0 and isinstance(tree.op, (ast.FloorDiv, ast.Mod))):
            return None
        return _OPERATORS[type(tree.op)](left, right)
    return None
