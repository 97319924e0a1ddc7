"""What a constant that a rewrite made stands for, so that exact arithmetic can use the expression.

A folded constant is rounded, so a graph with it is another function in exact arithmetic. What is compared is
the expression; that the stored numbers are its correct rounding is checked apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tautomer.graph.semantics.casts import lift
from tautomer.verify.weights import is_weight, randomised

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Origin:
    """A stored tensor times a number, or the number alone.

    Attributes:
        source: the name of the tensor in the original model, or None.
        factor: the number.
    """

    source: str | None
    factor: float

    def as_json(self) -> dict[str, Any]:
        """For the certificate."""
        return {"source": self.source, "factor": self.factor}


Provenance = Mapping[str, Origin]


def provenance_from_json(document: Mapping[str, Any]) -> dict[str, Origin]:
    """Reads what `Origin.as_json` wrote."""
    return {
        str(name): Origin(None if one["source"] is None else str(one["source"]), float(one["factor"]))
        for name, one in document.items()
    }


def number(m: Any, stored: Array) -> Any:
    """A tensor of one number, which is read as a scalar is: 0.1 in float32 as one tenth."""
    scalar = lift(m, stored.reshape(-1)[:1].reshape(()))
    return m.move(lambda x: np.broadcast_to(x, stored.shape), scalar)


def weight(m: Any, stored: Array, seed: int | None) -> Any:
    """A stored tensor, or the random one that takes its place."""
    return lift(m, randomised(stored, seed) if seed is not None and is_weight(stored) else stored)


def folded(m: Any, stored: Array, source: Array | None, factor: float, seed: int | None) -> Any:
    """The expression of a constant: number, or source * factor."""
    if source is None:
        return number(m, stored)
    return weight(m, source, seed) * factor
