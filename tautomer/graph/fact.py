"""What is known of a value before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one value.

    Attributes:
        shape: its sizes, or None.
        dtype: its element type, or None.
        array: its content when known and small. That of an initializer or a Constant is as stored; computed
            floats are float64, not rounded to `dtype`.
        constant: True when it depends neither on the data of a graph input nor on the sizes of one.
        static: True when its shape does not depend on the sizes that symbols are bound to.
    """

    shape: Shape | None = None
    dtype: ir.DataType | None = None
    array: NDArray[Any] | None = None
    constant: bool = False
    static: bool = False

    @property
    def size(self) -> int | None:
        """How many elements it has, or None."""
        return None if self.shape is None else elements(self.shape)


EMPTY = Fact()


def elements(shape: Shape) -> int:
    """How many elements a tensor of this shape has; never wraps around."""
    count = 1
    for size in shape:
        count *= size
    return count


class Facts(Mapping[ir.Value, Fact]):
    """Facts by value. Asking for a value that nothing is known of gives the empty fact."""

    def __init__(self, facts: dict[ir.Value, Fact]) -> None:
        self._facts = facts

    def get(self, value: ir.Value | None, default: Fact = EMPTY) -> Fact:  # type: ignore[override]
        """What is known of the value; nothing of None, which stands for an input that is left out."""
        return default if value is None else self._facts.get(value, default)

    def __getitem__(self, value: ir.Value) -> Fact:
        return self._facts.get(value, EMPTY)

    def set(self, value: ir.Value, fact: Fact) -> None:
        """Says what is known of a new value."""
        self._facts[value] = fact

    def __contains__(self, value: object) -> bool:
        return value in self._facts

    def __iter__(self) -> Iterator[ir.Value]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)
