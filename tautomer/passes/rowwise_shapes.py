"""How a tensor goes with another that it is broadcast to: what a kernel over rows can read, and what not.

A tensor of shape s that is broadcast to t holds, for the element i of t in memory order, its own element
(i / inner) mod middle, where the axes that s has are next to each other in t. All kinds of operands of a
kernel are of this form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tautomer.graph.fact import Shape
from tautomer.patterns.rowwise import Layout


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

    def kind(self, shape: Shape, onto: Shape) -> tuple[str, int]:
        """How a tensor goes with one of full size that it is broadcast to.

        Returns:
            The kind, "" for none; and for a segment, how many of them a row has.
        """
        found = spread(shape, onto)
        if found is None or prod(onto) != self.size:
            return "", 0
        inner, middle = found
        if middle == 1:
            return "number", 0
        if (inner, middle) == (1, self.size):
            return "full", 0
        if (inner, middle) == (self.columns, self.rows):
            return "column", 0
        if self.layout.grouped and (inner, middle) == (self.columns, self.groups):
            return "group", 0
        if self.layout.grouped:
            whole = inner * middle * self.shape[0] == self.size and self.columns % inner == 0
            return ("segment", self.columns // inner) if whole else ("", 0)
        return ("row", 0) if (inner, middle) == (1, self.columns) else ("", 0)


def spread(shape: Shape, onto: Shape) -> tuple[int, int] | None:
    """(inner, middle) of a broadcast; None where its axes are not next to each other."""
    lead = len(onto) - len(shape)
    if lead < 0:
        shape, lead = shape[-lead:] if prod(shape[:-lead]) == 1 else (0,), 0
    sizes = (1,) * lead + shape
    if len(sizes) != len(onto) or any(a not in (1, b) for a, b in zip(sizes, onto, strict=True)):
        return None
    there = [axis for axis, size in enumerate(sizes) if size != 1]
    if not there:
        return prod(onto), 1
    first, last = there[0], there[-1] + 1
    if sizes[first:last] != onto[first:last]:
        return None
    return prod(onto[last:]), prod(onto[first:last])
