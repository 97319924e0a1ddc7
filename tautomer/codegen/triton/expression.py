"""Expressions as Triton: every value is a float32 tile, or broadcasts against one.

    writer = TritonWriter({node_of_x: "x"})
    lines = writer.statements([result])      # t3 = x * x, ...
    text = writer.value(result)              # "t7"
    helpers = helper_text(writer.helpers)    # functions that the lines call

A value per element has the shape of the tile, a value per row one column, a number none: the lines are the
same. Numbers are literals and names are made here, so nothing of a model gets into the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from tautomer.codegen.expression import Node, reachable
from tautomer.codegen.numbers_per_row import INFIX
from tautomer.codegen.triton.math import HELPERS
from tautomer.errors import InternalError

# what the language has under the same name
_LANGUAGE = ("exp", "log", "sqrt", "rsqrt", "erf", "abs")


class TritonWriter:
    """Writes expressions, each value once, and remembers which functions they use.

    Args:
        named: values that are there already, and the names of their variables: x, operands, parameters, and
            the reductions whose results are known.
        prefix: of the variables that are made.

    Attributes:
        helpers: names for `triton_math.helper_text`.
    """

    def __init__(self, named: Mapping[Node, str] | None = None, prefix: str = "t") -> None:
        self._names = dict(named or {})
        self._prefix = prefix
        self.helpers: set[str] = set()

    def name(self, node: Node, variable: str) -> None:
        """Says that a value lies in a variable."""
        self._names[node] = variable

    def knows(self, node: Node) -> bool:
        """Whether a value has been written, or needs no statement."""
        return node in self._names or node.op == "number"

    def inner(self) -> TritonWriter:
        """A writer for the body of a loop: it knows what this one knows, and forgets nothing to it."""
        writer = TritonWriter(self._names, self._prefix)
        writer.helpers = self.helpers
        return writer

    def statements(self, roots: Iterable[Node]) -> list[str]:
        """The lines after which all roots are known.

        Raises:
            InternalError: a value is needed that has to be named first.
        """
        lines: list[str] = []
        for node in reachable(roots, lambda node: node not in self._names):
            if self.knows(node):
                continue
            text = self._computed(node, lines)
            self._names[node] = f"{self._prefix}{node.index}"
            lines.append(f"{self._names[node]} = {text}")
        return lines

    def value(self, node: Node) -> str:
        """The text that stands for a value that is known."""
        return literal(node.value) if node.op == "number" else self._names[node]

    def _computed(self, node: Node, lines: list[str]) -> str:
        args = [self.value(argument) for argument in node.args]
        if node.op == "div" and divides_by_row(node):
            return f"{args[0]} * {self._reciprocal(node.args[1], lines)}"
        if node.op in INFIX:
            return f"{args[0]} {INFIX[node.op]} {args[1]}"
        if node.op == "compare":
            return f"{args[0]} {node.name} {args[1]}"
        if node.op == "neg":
            return f"-{args[0]}"
        if node.op == "where":
            return f"tl.where({', '.join(args)})"
        if node.op in HELPERS:
            self.helpers.add(node.op)
            return f"{node.op}({', '.join(args)})"
        if node.op in _LANGUAGE:
            return f"tl.{node.op}({', '.join(args)})"
        raise InternalError(f"{node.op} has to be named before it is used", where="Triton text")

    def _reciprocal(self, node: Node, lines: list[str]) -> str:
        """A row is divided by a number by one division: the reciprocal is rounded once."""
        name = f"{self._prefix}{node.index}_reciprocal"
        line = f"{name} = 1.0 / {self.value(node)}"
        if line not in lines:
            lines.append(line)
        return name


def divides_by_row(node: Node) -> bool:
    """Whether a value per element is divided by what a reduction gave."""
    divisor = node.args[1]
    return not node.uniform and divisor.uniform and divisor.level > 0


def literal(value: float) -> str:
    """A number as Triton text; arithmetic with a tile rounds it to float32."""
    if math.isfinite(value):
        return repr(value) if value >= 0 else f"({value!r})"
    return f'float("{value}")'
