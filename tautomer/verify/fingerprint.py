"""Which tensors of two graphs are the same? Told by their content, never by their names.

Every intermediate float tensor gets a fingerprint: a hash of its elements that does not depend on their
order, so that a reshape or a transpose keeps it. In exact arithmetic on random inputs equal tensors have
equal fingerprints, and different ones differ but for a chance of about the size over 2^61.

When a check fails, the place to look is the first tensor of the original after which nothing matches: its
inputs have counterparts in the other graph, and neither it nor anything computed from it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.verify.blocks import by_blocks

Words = np.ndarray[Any, np.dtype[np.uint64]]

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def mixed(words: Words) -> Words:
    """A bijection of 64-bit words that leaves no visible structure (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * _MIX[0]
        words = (words ^ (words >> np.uint64(27))) * _MIX[1]
        return words ^ (words >> np.uint64(31))


def digest(slabs: Sequence[Words]) -> tuple[int, int]:
    """The fingerprint of a tensor, one word per slab and element: (elements, sum of their hashes)."""
    return _sum(_hashes(slabs))


def _hashes(slabs: Sequence[Words]) -> Words:
    def of(*words: Words) -> Words:
        element = np.zeros(words[0].shape, np.uint64)
        with np.errstate(over="ignore"):
            for word in words:
                element = mixed(element * np.uint64(31) + word + np.uint64(1))
        return element

    return by_blocks(of, *slabs, read=np.uint64, gives=np.uint64)


def _sum(hashes: Words) -> tuple[int, int]:
    with np.errstate(over="ignore"):
        return int(hashes.size), int(hashes.sum(dtype=np.uint64))


def _sum_by_place(hashes: Words) -> int:
    """A sum that tells the order of the elements, too; a reshape keeps it."""
    places = np.arange(1, 2 * hashes.size, 2, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return int((hashes.reshape(-1) * places).sum(dtype=np.uint64))


@dataclass(frozen=True)
class Divergence:
    """Where two graphs part.

    Attributes:
        value: the first tensor of the original without a counterpart after which nothing matches.
        consumed: what the node that makes it reads that still has a counterpart.
        clue: what more can be said of the difference, or "".
    """

    value: ir.Value
    consumed: ir.Value | None
    clue: str = ""

    def as_json(self) -> dict[str, str]:
        """The object of the JSON contract."""
        node = self.value.producer()
        return {
            "tensor": str(self.value.name),
            "node": "" if node is None else label(node),
            "consumes": "" if self.consumed is None else str(self.consumed.name),
            "clue": self.clue,
        }


class Prints:
    """Fingerprints of the tensors of one run, in the order in which they were made.

    Args:
        slabs: a value of the domain -> its elements as words; None for what is no float tensor.
    """

    def __init__(self, slabs: Callable[[Any], Sequence[Words] | None]) -> None:
        self._slabs = slabs
        self.of: dict[ir.Value, tuple[int, int]] = {}
        self.order: dict[ir.Value, int] = {}

    def observe(self, value: ir.Value, content: Any) -> None:
        """Takes the fingerprint of a value; given to the interpreter."""
        words = self._slabs(content)
        if words is not None:
            hashes = _hashes(words)
            self.of[value], self.order[value] = _sum(hashes), _sum_by_place(hashes)


def first_divergence(original: Prints, other: Prints) -> Divergence | None:
    """The first tensor of the original after which nothing has a counterpart; None when all ends match."""
    known = dict.fromkeys(other.of.values())
    matched = {value: print_ in known for value, print_ in original.of.items()}
    leads: dict[ir.Value, bool] = {}
    for value in reversed(original.of):
        readers = [out for node, _ in value.uses() for out in node.outputs if out in leads]
        leads[value] = matched[value] or any(leads[reader] for reader in readers)
    for value in original.of:
        node = value.producer()
        if leads[value] or node is None:
            continue
        before = [operand for operand in node.inputs if operand is not None and matched.get(operand, True)]
        consumed = next((operand for operand in before if operand in matched), before[0] if before else None)
        return Divergence(value, consumed)
    return None


def matches(original: Prints, other: Prints) -> tuple[int, int]:
    """How many tensors of the original have a counterpart, and how many there are."""
    known = dict.fromkeys(other.of.values())
    return sum(print_ in known for print_ in original.of.values()), len(original.of)
