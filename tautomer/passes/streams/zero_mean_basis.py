"""Rows of d numbers with mean zero, written as d - 1 numbers.

Published (arXiv 2305.14858): the last number is left out; it is minus the sum of the others.
Orthonormal: coordinates in the columns of Q, the first d - 1 columns of the reflection I - 2 v v^T / |v|^2
with v = e_d + 1 / sqrt(d), which takes e_d to -1 / sqrt(d). Lengths stay: |Q^T x| = |x| for such rows.

    x = R y for rows with mean zero:   y = T x,  and  x W = y (R^T W)
    published     T x = x[:d-1]                            R^T W = W[:d-1] - W[d-1:]
    orthonormal   T x = x[:d-1] - x[d-1:] / (1 + sqrt(d))
                  R^T W = W[:d-1] - (W[d-1:] + 1^T W / sqrt(d)) / (1 + sqrt(d))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.patterns.operation import Definition, definition_of


@dataclass(frozen=True)
class Basis:
    """One of the two ways.

    Attributes:
        length: d.
        orthonormal: which.
    """

    length: int
    orthonormal: bool

    @property
    def op(self) -> str:
        """The normalisation of such rows."""
        return "OrthonormalCRMSNormalization" if self.orthonormal else "CRMSNormalization"

    @property
    def definition(self) -> Definition:
        """What that normalisation computes."""
        definition = definition_of(self.op)
        assert definition is not None
        return definition

    def shorter(self, b: Builder, x: ir.Value, axis: int, dtype: ir.DataType) -> ir.Value:
        """T x, along an axis of mean zero."""
        head = self.head(b, x, axis)
        if not self.orthonormal:
            return head
        last = self._last(b, x, axis)
        one = b.scalar(1.0, dtype)
        factor = b.op("Div", one, b.op("Add", one, self._root(b, dtype)))
        return b.op("Sub", head, b.op("Mul", last, factor))

    def for_reader(self, b: Builder, w: ir.Value, axis: int, dtype: ir.DataType) -> ir.Value:
        """R^T W, along the axis of W that meets the rows."""
        head, last = self.head(b, w, axis), self._last(b, w, axis)
        if not self.orthonormal:
            return b.op("Sub", head, last)
        root = self._root(b, dtype)
        total = b.op("Div", b.reduce("ReduceSum", w, [axis]), root)
        share = b.op("Div", b.op("Add", last, total), b.op("Add", b.scalar(1.0, dtype), root))
        return b.op("Sub", head, share)

    def head(self, b: Builder, x: ir.Value, axis: int) -> ir.Value:
        """x[:d-1]."""
        return _slice(b, x, axis, 0, self.length - 1)

    def _root(self, b: Builder, dtype: ir.DataType) -> ir.Value:
        """sqrt(d), as an operator on the exact d: it is a number with infinitely many digits."""
        d = b.scalar(float(self.length), ir.DataType.DOUBLE)
        return b.op("Cast", b.op("Sqrt", d), to=int(dtype))

    def _last(self, b: Builder, x: ir.Value, axis: int) -> ir.Value:
        return _slice(b, x, axis, self.length - 1, self.length)


def _slice(b: Builder, x: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    starts, ends, axes = (b.constant(np.array([n], np.int64)) for n in (start, end, axis))
    return b.op("Slice", x, starts, ends, axes)
