"""A site: one rewrite with what its two sides are computed from, old(leaves) and new(leaves)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fact import Shape
from tautomer.graph.facts import Facts
from tautomer.graph.semantics.domain import Mathematics
from tautomer.verify.cone_evaluation import ConeEvaluation
from tautomer.verify.few_rows import between

_INDICES = 2  # of what is longer than 1, however few of it are looked at
_MOSTLY = 0.7  # of the truths in a mask


@dataclass(frozen=True)
class Site:
    """One rewrite.

    Attributes:
        model: the model, before the first rewrite.
        facts: of its values.
        old: the value as the model computes it.
        new: the value that is to replace it.
        leaves: what both are computed from -> the value of the original model that has its shape.
    """

    model: ir.Model
    facts: Facts
    old: ir.Value
    new: ir.Value
    leaves: Mapping[ir.Value, ir.Value]

    def between(self) -> Iterator[ir.Node]:
        """The nodes of both sides, producers first."""
        return between((self.old, self.new), self.leaves, self.facts)

    def evaluation(
        self,
        shapes: Mapping[ir.Value, Shape],
        m: Mathematics,
        contents: Mapping[ir.Value, Any],
        seed: int | None = None,
    ) -> ConeEvaluation:
        """What gives the values of both sides.

        Args:
            shapes: of few rows.
            m: the domain.
            contents: of the leaves: truths and indices stay as they are, numbers become values of the domain.
            seed: of the random numbers that take the place of weights; None keeps the weights.
        """
        cone = ConeEvaluation(self.model, self.facts, shapes, m, seed)
        for leaf, x in contents.items():
            cone.values[leaf] = m.constant(x) if np.asarray(x).dtype.kind == "f" else x
        return cone

    def drawn(self, leaf: ir.Value, shape: Shape, rng: np.random.Generator) -> Any:
        """What a leaf holds, where that is known; else numbers, or truths with the first of each row true."""
        known = self.facts.get(self.leaves[leaf])
        if known.array is not None and known.array.shape == shape:
            return known.array if known.array.dtype == bool else known.array.astype(np.float64)
        if known.dtype is not None and known.dtype.is_integer():
            return rng.integers(0, _INDICES, shape)
        if known.dtype != ir.DataType.BOOL:
            return rng.standard_normal(shape)
        truths = np.asarray(rng.random(shape) < _MOSTLY)
        if shape:
            truths[..., 0] = True
        return truths
