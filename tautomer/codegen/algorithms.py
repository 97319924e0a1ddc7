"""Kernels whose algorithm does not follow from the definition, but computes the same.

A family registers here a function that writes the loops over one row. The rest of the text - types, storage,
functions on vectors, the frame - is that of every kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tautomer.codegen.isa import Isa
from tautomer.codegen.trace import Program


@dataclass(frozen=True)
class Loops:
    """The part of a kernel that computes.

    Attributes:
        lines: statements for one row, where `x_row`, `y_row`, `columns` and `NAME_row` for each operand are
            known; of a pointwise operation for the elements from `first` to `last`.
        once: statements before the first row.
        at_end: statements after the last row.
        helpers: texts of functions and types that the statements use.
        long_chains: whether an element takes so many dependent operations that the compiler has to interleave
            those of several vectors: more than a processor looks ahead.
    """

    lines: tuple[str, ...]
    once: tuple[str, ...] = ()
    at_end: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    long_chains: bool = False


RowAlgorithm = Callable[[Program, Isa], Loops]
_ALGORITHMS: dict[tuple[str, str], tuple[RowAlgorithm, tuple[str, ...], bool]] = {}


def row_algorithm(
    key: str, name: str, dtypes: tuple[str, ...] = ("float32",), parts: bool = False
) -> Callable[[RowAlgorithm], RowAlgorithm]:
    """Registers an algorithm of an operation.

    Args:
        key: the key of the operation's definition.
        name: what the algorithm is asked for by.
        dtypes: the types that it stores.
        parts: whether its text also exports a row in parts, as `softmax.parts` has it.
    """

    def register(function: RowAlgorithm) -> RowAlgorithm:
        _ALGORITHMS[key, name] = (function, dtypes, parts)
        return function

    return register


def algorithms(key: str, dtype: str = "float32") -> tuple[str, ...]:
    """What can be asked for beside the definition's own form, "" (which is always there)."""
    _load()
    written = (name for (op, name), (_, dtypes, _) in _ALGORITHMS.items() if op == key and dtype in dtypes)
    return ("stream", *sorted(written))


def algorithm_of(key: str, name: str, dtype: str) -> RowAlgorithm | None:
    """An algorithm, None if there is none of this name for this type."""
    _load()
    function, dtypes, _ = _ALGORITHMS.get((key, name), (None, (), False))
    return function if dtype in dtypes else None


def has_parts(key: str, name: str) -> bool:
    """Whether an algorithm can give the parts of a row to different threads."""
    _load()
    return (key, name) in _ALGORITHMS and _ALGORITHMS[key, name][2]


def _load() -> None:
    from tautomer.codegen.softmax import extended as softmax_extended  # noqa: F401
    from tautomer.codegen.softmax import lane as softmax_lane  # noqa: F401
    from tautomer.codegen.softmax import rows as softmax_rows  # noqa: F401
