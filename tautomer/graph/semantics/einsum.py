"""Einstein's summation as transpositions, sums and matrix products."""

from __future__ import annotations

from functools import reduce
from string import ascii_letters
from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import kind_of
from tautomer.graph.semantics.domain import Array, Mathematics
from tautomer.graph.semantics.movement import shape_of
from tautomer.graph.semantics.table import meaning


def terms(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, an ellipsis written out."""
    left, _, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if len(operands) != len(ranks):
        raise ValueError(f"'{equation}' of {len(ranks)} operands")
    spare = [letter for letter in ascii_letters if letter not in equation]
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(operands, ranks, strict=True)]
    longest = max((n for n, term in zip(hidden, operands, strict=True) if "..." in term), default=0)
    dots = "".join(spare[:longest])
    written = [term.replace("...", dots[longest - n :]) for n, term in zip(hidden, operands, strict=True)]
    if any(len(term) != rank for term, rank in zip(written, ranks, strict=True)):
        raise ValueError(f"'{equation}' of ranks {ranks}")
    if "->" in equation:
        return written, right.replace("...", dots)
    letters = sorted(set("".join(operands)) - {"."})
    return written, dots + "".join(c for c in letters if "".join(operands).count(c) == 1)


def _alone(kind: Any, term: str, x: Any, needed: str) -> tuple[str, Any]:
    """Takes diagonals of repeated letters and sums over letters that nobody needs."""
    distinct = "".join(dict.fromkeys(term))
    if distinct != term:

        def diagonal(a: Array) -> Array:
            grid = np.indices([a.shape[term.index(c)] for c in distinct], sparse=True)
            return np.asarray(a[tuple(grid[distinct.index(c)] for c in term)])

        x = kind.move(diagonal, x)
    idle = tuple(i for i, c in enumerate(distinct) if c not in needed)
    return "".join(c for c in distinct if c in needed), kind.sum(x, idle, False) if idle else x


def _pair(kind: Any, left: tuple[str, Any], right: tuple[str, Any], needed: str) -> tuple[str, Any]:
    """Two operands as one matrix product: letters shared and needed are its batch."""
    (a, x), (b, y) = left, right
    size = dict(zip(b, kind.shape(y), strict=True))
    for letter, n in zip(a, kind.shape(x), strict=True):
        size[letter] = max(n, size.get(letter, 1)) if n and size.get(letter, 1) else 0
    batch = [c for c in a if c in b and c in needed]
    inner = [c for c in a if c in b and c not in needed]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def extent(letters: list[str]) -> int:
        return int(np.prod([size[c] for c in letters], dtype=np.int64))

    def arranged(value: Any, term: str, order: list[str], shape: list[int]) -> Any:
        def arrange(array: Array) -> Array:
            turned = array.transpose([term.index(c) for c in order])
            return np.broadcast_to(turned, [size[c] for c in order]).reshape(shape)

        return kind.move(arrange, value)

    lead = [size[c] for c in batch]
    product = kind.matmul(
        arranged(x, a, batch + rows + inner, [*lead, extent(rows), extent(inner)]),
        arranged(y, b, batch + inner + columns, [*lead, extent(inner), extent(columns)]),
    )
    letters = batch + rows + columns
    return "".join(letters), kind.move(lambda array: array.reshape([size[c] for c in letters]), product)


@meaning("Einsum")
def einsum(m: Mathematics, call: Call, *xs: Any) -> Any:
    """The sum over every letter that the result does not have."""
    kind = kind_of(m, *xs)
    written, result = terms(str(call.attributes["equation"]), [len(shape_of(m, x)) for x in xs])

    def needed(position: int) -> str:
        return result + "".join(written[position + 1 :])

    def step(left: tuple[str, Any], i: int) -> tuple[str, Any]:
        right = _alone(kind, written[i], xs[i], left[0] + needed(i))
        letters, product = _pair(kind, left, right, needed(i))
        return _alone(kind, letters, product, needed(i))

    term, total = reduce(step, range(1, len(xs)), _alone(kind, written[0], xs[0], needed(0)))
    return kind.move(lambda a: a.transpose([term.index(c) for c in result]), total)
