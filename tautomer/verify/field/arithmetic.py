"""Movement, + - * /, sums and matrix products of ring elements; what masks of -inf do to them.

-inf is no element of a ring. It is a mark beside the residues, and only what masks need of it is defined:
-inf + x, -inf * c for a positive constant c, e^-inf = 0, max(-inf, x) = x and being picked by `where`.
Anything else that meets a mark is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from tautomer.graph.semantics.domain import Array, Axes, Unsupported
from tautomer.verify.field.constants import Constants
from tautomer.verify.field.value import Residues

_EXACT = 1 << 26  # whole numbers up to here stay exact in float64 under one operation


class Arithmetic(Constants):
    """What all fields compute alike."""

    def move(self, f: Callable[..., Any], *xs: Any) -> Residues:
        """Moves elements."""
        values = [self.lift(x) for x in xs]
        slabs = tuple(f(*parts) for parts in zip(*self.ring.common([v.slabs for v in values]), strict=True))
        low = f(*(v.masked for v in values)) if any(v.low is not None for v in values) else None
        known = [v.known for v in values if v.known is not None]
        if len(known) < len(values):
            return Residues(slabs, self, low)
        return Residues(slabs, self, low, f(*(k if len(known) == 1 else k.astype(np.float64) for k in known)))

    def add(self, x: Any, y: Any) -> Residues:
        """x + y."""
        a, b = self.lift(x), self.lift(y)
        low = None if a.low is None and b.low is None else a.masked | b.masked
        return Residues(self.ring.add(a.slabs, b.slabs), self, low, _whole(np.add, a, b))

    def subtract(self, x: Any, y: Any) -> Residues:
        """x - y."""
        a, b = self.lift(x), self.finite("Sub", y)
        slabs = self.ring.sub(a.slabs, b.slabs)
        low = None if a.low is None else np.broadcast_to(a.low, slabs[0].shape)
        return Residues(slabs, self, low, _whole(np.subtract, a, b))

    def multiply(self, x: Any, y: Any) -> Residues:
        """x y."""
        a, b = self.lift(x), self.lift(y)
        a, b = (b, a) if a.low is None else (a, b)
        b = self.finite("Mul", b)
        slabs = self.ring.mul(a.slabs, b.slabs)
        return Residues(slabs, self, self._scaled(a, b, slabs[0].shape), _whole(np.multiply, a, b))

    def divide(self, x: Any, y: Any) -> Residues:
        """x / y."""
        a, b = self.lift(x), self.finite("Div", y)
        slabs = self.ring.mul(a.slabs, self.ring.inverse(b.slabs))
        return Residues(slabs, self, self._scaled(a, b, slabs[0].shape))

    def _scaled(self, a: Residues, b: Residues, shape: tuple[int, ...]) -> Array | None:
        if a.low is None:
            return None
        if b.known is None or not np.all(b.known > 0):
            raise Unsupported("Mul", "-inf times what may not be positive")
        return np.broadcast_to(a.low, shape)

    def negate(self, x: Any) -> Residues:
        """-x."""
        a = self.finite("Neg", x)
        return Residues(
            self.ring.neg(a.slabs), self, known=None if a.known is None else -a.known.astype(np.float64)
        )

    def finite(self, op: str, x: Any) -> Residues:
        """A tensor without marks, or a refusal in the name of an operator."""
        a = self.lift(x)
        if a.low is not None:
            raise Unsupported(op, "-inf in a field")
        return a

    def sum(self, x: Any, axes: Axes, keepdims: bool) -> Residues:
        """The sum."""
        return Residues(self.ring.sum(self.finite("ReduceSum", x).slabs, axes, keepdims), self)

    def mean(self, x: Any, axes: Axes, keepdims: bool) -> Residues:
        """The sum over the count."""
        total = self.sum(x, axes, keepdims)
        count = math.prod(self.shape(x)[axis] for axis in axes)
        return Residues(self.ring.mul(total.slabs, self.ring.fraction(Fraction(1, count))), self)

    def prod(self, x: Any, axes: Axes, keepdims: bool) -> Residues:
        """The product, pair by pair."""
        slabs, shape = rows_of(self.finite("ReduceProd", x).slabs, axes, keepdims)
        while (length := slabs[0].shape[-1]) > 1:
            half = length // 2
            pairs = self.ring.mul(
                tuple(s[..., :half] for s in slabs), tuple(s[..., half : 2 * half] for s in slabs)
            )
            rest = self.ring.common([pairs, tuple(s[..., 2 * half :] for s in slabs)])
            slabs = tuple(np.concatenate(parts, axis=-1) for parts in zip(*rest, strict=True))
        if length == 0:
            return self.exact(np.ones(shape))
        return Residues(tuple(s.reshape(shape) for s in slabs), self)

    def matmul(self, x: Any, y: Any) -> Residues:
        """The matrix product."""
        a, b = self.finite("MatMul", x), self.finite("MatMul", y)
        shape = np.matmul(np.empty(a.shape, np.bool_), np.empty(b.shape, np.bool_)).shape
        if len(a.shape) == 1 or (len(a.shape) > 2 and len(b.shape) == 2):  # one matrix: all rows at once
            a = self.move(lambda s: s.reshape(-1, s.shape[-1]), a)
        if len(b.shape) == 1:
            b = self.move(lambda s: s[:, None], b)
        return Residues(tuple(s.reshape(shape) for s in self.ring.matmul(a.slabs, b.slabs)), self)


def rows_of(
    slabs: tuple[Array, ...], axes: Axes, keepdims: bool
) -> tuple[tuple[Array, ...], tuple[int, ...]]:
    """Arrays with the axes made one, the last; and the shape of a reduction over them."""
    rank, shape = slabs[0].ndim, slabs[0].shape
    kept = [axis for axis in range(rank) if axis not in axes]
    length = math.prod(shape[axis] for axis in axes)
    rows = tuple(
        s.transpose(kept + list(axes)).reshape([shape[axis] for axis in kept] + [length]) for s in slabs
    )
    if keepdims:
        return rows, tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return rows, tuple(shape[axis] for axis in kept)


def _whole(f: np.ufunc, a: Residues, b: Residues) -> Array | None:
    """f of two tensors of small whole numbers, which are masks and positions; None for others."""
    if a.known is None or b.known is None or a.low is not None or b.low is not None:
        return None
    x, y = a.known.astype(np.float64), b.known.astype(np.float64)
    for numbers in (x, y):
        if not np.all((np.abs(numbers) < _EXACT) & (numbers == np.rint(numbers))):
            return None
    return np.asarray(f(x, y))
