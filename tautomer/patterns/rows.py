"""The mathematics that a definition sees: a number domain, and the axes that make a row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import mul
from typing import Any

import numpy as np

from tautomer.patterns.operation import Definition


class Rows:
    """Delegates to a domain and adds reductions over the row, which keep their axes.

    Args:
        m: a number domain (see graph.semantics.mathematics).
        axes: the axes of a row; () for a pointwise operation.
    """

    def __init__(self, m: Any, axes: tuple[int, ...] = ()) -> None:
        self._m, self._axes = m, axes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._m, name)

    def mean(self, x: Any) -> Any:
        """The arithmetic mean of each row."""
        return self._m.mean(x, self._axes, True)

    def sum(self, x: Any) -> Any:
        """The sum of each row."""
        return self._m.sum(x, self._axes, True)

    def count(self, x: Any) -> Any:
        """How many elements a row has."""
        sizes = self._m.shape(x)
        return reduce(mul, (sizes[axis] for axis in self._axes))

    def max(self, x: Any) -> Any:
        """The maximum of each row."""
        return self._m.amax(x, self._axes, True)


def apply(
    definition: Definition,
    m: Any,
    x: Any,
    *,
    axes: tuple[int, ...] = (),
    operands: Mapping[str, Any] | None = None,
    parameters: Mapping[str, float] | None = None,
) -> Any:
    """The first result of a definition in a domain, which is the only one of nearly all; see `apply_all`."""
    return apply_all(definition, m, x, axes=axes, operands=operands, parameters=parameters)[0]


def apply_all(
    definition: Definition,
    m: Any,
    x: Any,
    *,
    axes: tuple[int, ...] = (),
    operands: Mapping[str, Any] | None = None,
    parameters: Mapping[str, float] | None = None,
) -> tuple[Any, ...]:
    """Evaluates a definition in a domain; absent operands are 1 and 0, absent parameters their defaults."""
    values = {**definition.parameters, **(parameters or {})}
    with np.errstate(
        all="ignore"
    ):  # what overflows or divides by 0 is a result, in numpy as in other domains
        found = definition.function(Rows(m, axes), x, **(operands or {}), **values)
    return found if len(definition.results) > 1 else (found,)
