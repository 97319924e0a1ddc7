"""The arithmetic of affine maps whose matrices are constants, as nodes that compute in double precision.

(x M + c) W           = x (M W) + c W
(x M + c) + (x N + d) = x (M + N) + (c + d)
s (x M + c)           = x (M diag(s)) + s c
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder


@dataclass(frozen=True)
class AffineMap:
    """x M + c, or x diag(g) + c.

    Attributes:
        matrix: M [in, out]; None where no product has been met yet.
        gain: g [in] or [1], where there is no M; None for ones.
        row: c [out] or [1]; None for zero.
    """

    matrix: ir.Value | None = None
    gain: ir.Value | None = None
    row: ir.Value | None = None


def wide(b: Builder, value: ir.Value) -> ir.Value:
    """A constant in double precision."""
    return b.op("Cast", value, to=int(ir.DataType.DOUBLE))


def minus_one(b: Builder) -> ir.Value:
    """-1 in double precision."""
    return b.scalar(-1.0, ir.DataType.DOUBLE)


def row_of(b: Builder, value: ir.Value) -> ir.Value:
    """A constant with a number per channel as a vector, or a number as one of one element."""
    return b.op("Reshape", wide(b, value), b.constant(np.array([-1], np.int64)))


def multiplied(b: Builder, one: AffineMap, weight: ir.Value) -> AffineMap:
    """(x diag(g) M + c) W."""
    row = None if one.row is None else b.op("MatMul", one.row, weight)
    if one.matrix is not None:
        return AffineMap(b.op("MatMul", one.matrix, weight), None, row)
    if one.gain is None:
        return AffineMap(weight, None, row)
    return AffineMap(b.op("Mul", b.op("Reshape", one.gain, b.constant(np.array([-1, 1]))), weight), None, row)


def scaled(b: Builder, op: str, one: AffineMap, factor: ir.Value) -> AffineMap:
    """(x M + c) diag(s), or by 1/s."""
    row = None if one.row is None else b.op(op, one.row, factor)
    if one.matrix is not None:
        return AffineMap(b.op(op, one.matrix, factor), None, row)
    gain = b.scalar(1.0, ir.DataType.DOUBLE) if one.gain is None else one.gain
    return AffineMap(None, b.op(op, gain, factor), row)


def summed(b: Builder, op: str, one: AffineMap, other: AffineMap) -> AffineMap:
    """The sum or difference of two maps, of which at most one is without a product."""

    def part(first: ir.Value | None, second: ir.Value | None) -> ir.Value | None:
        if first is not None and second is not None:
            return b.op(op, first, second)
        if first is None and second is not None and op == "Sub":
            return b.op("Neg", second)
        return second if first is None else first

    gain = one.gain if other.gain is None else other.gain
    return AffineMap(part(one.matrix, other.matrix), gain, part(one.row, other.row))
