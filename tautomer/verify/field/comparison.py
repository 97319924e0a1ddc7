"""What two tensors of an exact domain say about each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tautomer.graph.semantics.domain import Array


@dataclass(frozen=True)
class Comparison:
    """Counts of pairs of elements.

    Attributes:
        elements: how many there are.
        different: how many are shown to differ.
        same: how many agree as exactly as the domain can tell.
        undecided: the others.
        first_different: the index of the first pair that differs.
        first_undecided: the index of the first pair that is undecided.
    """

    elements: int
    different: int
    same: int
    undecided: int
    first_different: tuple[int, ...] | None = None
    first_undecided: tuple[int, ...] | None = None

    @classmethod
    def of(cls, different: Array, undecided: Array) -> Comparison:
        """Counts two boolean arrays."""
        d, u = int(different.sum()), int(undecided.sum())
        return cls(different.size, d, different.size - d - u, u, _first(different), _first(undecided))

    @property
    def equal(self) -> bool:
        """True when every element agrees."""
        return self.same == self.elements


def _first(where: Array) -> tuple[int, ...] | None:
    found = np.argwhere(where)
    return tuple(int(i) for i in found[0]) if len(found) else None
