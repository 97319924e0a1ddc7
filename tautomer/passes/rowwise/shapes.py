"""How a tensor goes with another that it is broadcast to: what a kernel over rows can read, and what not.

What it holds for a row follows from the axes before the row, see `patterns.rowwise_places`; and in the row it
has all elements, one number, or one number for each part of equal length.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tautomer.graph.fact import Shape
from tautomer.patterns.rowwise.places import Place, place_of, spread
from tautomer.patterns.rowwise.program import Layout


@dataclass(frozen=True)
class Way:
    """How a tensor goes with another.

    Attributes:
        kind: of an operand, see `patterns.rowwise`; "" for none.
        segments: of a segment, how many a row has.
        place: period and count of a column or a block.
    """

    kind: str = ""
    segments: int = 0
    place: Place = (1, 1)


@dataclass(frozen=True)
class Cut:
    """Where the rows of a tensor lie, for numbers in the place of symbolic sizes.

    Attributes:
        layout: in words that do not depend on sizes.
        shape: of the result, and of what has its shape.
        groups: for a grouped layout, rows of an example.
    """

    layout: Layout
    shape: Shape
    groups: int = 1

    @property
    def size(self) -> int:
        """Elements of the tensor."""
        return prod(self.shape)

    @property
    def columns(self) -> int:
        """Elements of a row; 0 where the shape cannot be cut like this."""
        if not self.layout.grouped:
            return prod(self.shape[-self.layout.axes :])
        rest = prod(self.shape[1:])
        return 0 if rest % self.groups else rest // self.groups

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.size // max(self.columns, 1)

    def way(self, shape: Shape, onto: Shape) -> Way:
        """How a tensor goes with one of full size that it is broadcast to."""
        if prod(onto) != self.size:
            return Way()
        return self._in_groups(shape, onto) if self.layout.grouped else self._in_rows(shape, onto)

    def _in_rows(self, shape: Shape, onto: Shape) -> Way:
        axes = next((n for n in range(1, len(onto) + 1) if prod(onto[-n:]) == self.columns), 0)
        place = place_of(shape, onto, axes) if axes else None
        if place is None:
            return Way()
        own = ((1,) * axes + shape)[-axes:]
        if own == onto[-axes:]:
            if prod(shape) == self.size:
                return Way("full")
            return Way("row") if place[1] == 1 else Way("block", place=place)
        if prod(own) != 1:
            return Way()
        return Way("number") if place[1] == 1 else Way("column", place=place)

    def _in_groups(self, shape: Shape, onto: Shape) -> Way:
        found = spread(shape, onto)
        if found is None:
            return Way()
        inner, middle = found
        if middle == 1:
            return Way("number")
        if (inner, middle) == (1, self.size):
            return Way("full")
        if inner == self.columns and middle in (self.rows, self.groups):
            return Way("column", place=(1, middle))
        whole = inner * middle * self.shape[0] == self.size and self.columns % inner == 0
        return Way("segment", self.columns // inner) if whole else Way()
