"""The passes over a row: each reduction as early as it can be, several in one pass.

A reduction that needs the result of another waits for the next pass. What later passes need again is
computed again: a row that has just been read is in a near cache, and arithmetic is cheaper than a store.
The exception is a value with an exponential or the like in it, which is kept in the place of the result
when nothing is lost by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tautomer.codegen.centred_squares import centred_squares
from tautomer.codegen.expression import REDUCTIONS, Node, reachable
from tautomer.codegen.trace import Program

_CHOOSING = ("compare", "where", "maximum", "minimum")
_COSTLY = ("exp", "expm1", "log", "log1p", "erf", "one_plus_erf", "tanh", "tanh_softplus", "sigmoid")


@dataclass(frozen=True)
class Schedule:
    """How a program runs over a row.

    Attributes:
        passes: the reductions of each pass, before the one that writes the result.
        kept: a value of the last of those passes that is worth keeping, or None.
        wide: the sums that need more digits than float32 has.
        plain: the maxima that need not look for NaN: the result has it from a sum over the same elements.
        squares: sum (t - m)^2 -> sum t of the mean m, whose pass gives the sum of squares too.
    """

    passes: tuple[tuple[Node, ...], ...]
    kept: Node | None
    wide: frozenset[Node]
    plain: frozenset[Node]
    squares: Mapping[Node, Node]


def schedule(program: Program) -> Schedule:
    """The fewest passes."""
    reductions = [node for node in reachable(program.results) if node.op in REDUCTIONS]
    levels = sorted({node.level for node in reductions})
    passes = tuple(tuple(node for node in reductions if node.level == level) for level in levels)
    kept = None if program.folded or not passes else _worth_keeping(program, passes[-1])
    wide = frozenset(
        multiple(node.args[1])
        for node in reachable(program.results)
        if node.op == "sub" and not node.uniform and multiple(node.args[1]).op == "sum"
    )
    sums = [one for one in reductions if one.op == "sum" and all(_shows(y, one) for y in program.results)]
    plain = frozenset(
        node
        for node in reductions
        if node.op == "max" and any(_shows(one.args[0], node.args[0]) for one in sums)
    )
    return Schedule(passes, kept, wide, plain, centred_squares(passes, wide))


def _shows(node: Node, source: Node) -> bool:
    """Whether a value is NaN wherever another is, by its form."""
    return source in reachable([node], lambda step: step.op not in _CHOOSING)


def multiple(node: Node) -> Node:
    """What a value per row is a multiple of, as a mean is of a sum."""
    while node.op in ("div", "mul") and node.args[0].uniform and not node.args[1].level:
        node = node.args[0]
    return node


def _worth_keeping(program: Program, last: tuple[Node, ...]) -> Node | None:
    """A reduced value that is costly, and that the result is computed from without another look at a row."""
    if len(program.results) > 1:
        return None  # there is more than one place of a result
    for reduction in last:
        value = reduction.args[0]
        if not any(node.op in _COSTLY for node in elements([value])):
            continue
        rest = elements(list(program.results), stop=value)
        if value in rest and not any(node.op == "x" or node.op == "operand" for node in rest):
            return value
    return None


def elements(roots: list[Node], stop: Node | None = None) -> list[Node]:
    """The values per element that the roots are computed from in one pass, arguments first."""
    found = reachable(roots, lambda node: not node.uniform and node is not stop)
    return [node for node in found if not node.uniform]


def inputs_of(roots: list[Node], kept: Node | None = None) -> list[str]:
    """The tensors that are read for the roots; the kept value lies in y."""
    read = [node for node in elements(roots, kept) if node.op in ("x", "operand") and node is not kept]
    return [node.name or node.op for node in read] + (["y"] if kept is not None else [])
