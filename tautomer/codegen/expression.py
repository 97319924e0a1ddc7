"""Expressions over a row of numbers: what a definition becomes when it is traced.

A node stands for one value per element of the row, or for one value per row ("uniform"): a number, a
parameter, an operand of one number or of one per row, how many elements the row has, a sum or a maximum over
it, and all that is computed from those.
Equal nodes are one node, so a value is computed once, and comparing nodes is comparing identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

REDUCTIONS = ("sum", "max")
_PER_ELEMENT = ("x", "operand")
_OF_ONE_ROW = (*_PER_ELEMENT, *REDUCTIONS, "column")


@dataclass(frozen=True, eq=False)
class Node:
    """A value.

    Attributes:
        index: its place in the order of creation; arguments come before what uses them.
        op: "x", "operand", "column" (an operand of one number per row), "single" (one of one number),
            "parameter", "number", "count", a reduction, or what is done to the arguments.
        args: the arguments.
        name: of an operand or a parameter; the relation of a comparison.
        value: of a number.
        uniform: whether it is the same for all elements of a row.
        level: how many reductions have to be done, one after the other, before it can be computed.
        fixed: whether it is the same for all rows.
    """

    index: int
    op: str
    args: tuple[Node, ...]
    name: str
    value: float
    uniform: bool
    level: int
    fixed: bool


class Expressions:
    """Makes nodes, each of them once."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}

    def node(self, op: str, *args: Node, name: str = "", value: float = 0.0) -> Node:
        """The node of this operation on these arguments."""
        key = (op, *(arg.index for arg in args), name, value.hex())
        if key not in self._nodes:
            level = max((arg.level for arg in args), default=0) + (op in REDUCTIONS)
            uniform = op not in _PER_ELEMENT and (
                op in REDUCTIONS or all(argument.uniform for argument in args)
            )
            fixed = op not in _OF_ONE_ROW and all(argument.fixed for argument in args)
            self._nodes[key] = Node(len(self._nodes), op, args, name, value, uniform, level, fixed)
        return self._nodes[key]

    def number(self, value: float) -> Node:
        """A constant."""
        return self.node("number", value=float(value))


def reachable(roots: Iterable[Node], into: Callable[[Node], bool] = lambda node: True) -> list[Node]:
    """All nodes that the roots are computed from, arguments first.

    Args:
        roots: where to begin.
        into: whether to look at the arguments of a node too.
    """
    found: dict[int, Node] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node.index not in found:
            found[node.index] = node
            if into(node):
                waiting.extend(node.args)
    return [found[index] for index in sorted(found)]


def number_in(node: Node) -> float | None:
    """The value of a constant, None for anything else."""
    return node.value if node.op == "number" else None


def never_positive(node: Node) -> bool:
    """Whether a value is at most 0 by its form, whatever the row holds; NaN does not count.

    An exponential of such a value needs no care for overflow.
    """
    if node.op == "neg":
        value = node.args[0]
        square = value.op == "mul" and value.args[0] is value.args[1]
        return square or value.op in ("abs", "exp", "sigmoid")
    if node.op == "sub":
        value, bound = node.args
        parts = bound.args if bound.op == "maximum" else (bound,)
        return any(part is value or (part.op == "max" and part.args[0] is value) for part in parts)
    if node.op == "minimum":
        return any(argument.op == "number" and argument.value <= 0.0 for argument in node.args)
    return False


def from_largest(node: Node) -> bool:
    """Whether a value is the difference of an element and the largest of its row."""
    return node.op == "sub" and node.args[1].op == "max" and node.args[1].args[0] is node.args[0]


def float32_exactly(node: Node) -> bool:
    """Whether a uniform value, which is computed in double precision, is a float32 number by its form."""
    if node.op in ("max", "parameter", "number", "column", "single"):
        return True  # parameters are: ONNX's attributes are float32; a constant is rounded once, as anywhere
    return node.op in ("maximum", "minimum", "neg", "abs") and all(map(float32_exactly, node.args))
