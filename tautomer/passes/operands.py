"""The operands of an operation as one node takes them: in the shape of a row, multiplied by their factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder, numpy_type
from tautomer.graph.facts import Fact
from tautomer.passes.workspace import Workspace
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.patterns.recognition.recognised import Recognised

_EXPAND_SINCE = 8


def operands_of(
    work: Workspace, op: Recognised, dtype: ir.DataType, b: Builder, *, bias_is_optional: bool
) -> list[ir.Value | None] | str:
    """x and the tensors, shaped and scaled as the form wants them, or why that cannot be done."""
    facts = work.facts
    static = work.recognition.static
    assert op.inputs[0] is not None
    shape = facts.get(op.inputs[0]).shape
    assert shape is not None
    row = tuple(shape[axis] for axis in op.axes)
    x = work.now(op.inputs[0])
    operands: list[ir.Value | None] = [x]
    given = dict(zip(op.definition.operands, op.inputs[1:], strict=False))
    for name in op.definition.operands:
        value = given.get(name)
        if name in op.definition.channels:
            own = _of_channels(work, op, name, value, shape, dtype, b)
            if isinstance(own, str):
                return own
            operands.append(own)
            continue
        if value is None:
            optional = name == "bias" and bias_is_optional
            if not optional and not static(op.inputs[0], op.axes):
                return "the length of its rows is not fixed, and it needs a gain of that length"
            filler = 1.0 if name == "scale" else 0.0
            operands.append(None if optional else filled(filler, row, dtype, b))
            continue
        if facts.get(value).dtype not in (None, dtype):
            return f"'{value.name}' has another element type than the result"
        if name not in ROW_OPERANDS and facts.get(value).shape != shape:
            return f"'{value.name}' has another shape than what it goes with"
        if name in ROW_OPERANDS and facts.get(value).shape != row:
            fitted = _fitted(work, value, facts.get(value), row, b)
            if fitted is None or not static(op.inputs[0], op.axes):
                return f"'{value.name}' would have to be broadcast to the shape of a row"
            value = fitted
        else:
            value = work.now(value)
        factor = op.factors.get(name, 1.0)
        if factor != 1.0:
            value = _scaled(value, factor, dtype, b, constant=facts.get(given[name]).constant)
        operands.append(value)
    return operands


def _of_channels(
    work: Workspace,
    op: Recognised,
    name: str,
    value: ir.Value | None,
    shape: Sequence[int],
    dtype: ir.DataType,
    b: Builder,
) -> ir.Value | str:
    """A number, or one for each channel: a vector where a norm of ONNX reads it, else broadcast to x."""
    vector = op.definition.rows.startswith("channel")
    if value is None:
        number = op.definition.channels[name]
        assert number is not None
        if vector and not work.recognition.static(op.inputs[0], (1,)):  # type: ignore[arg-type]
            return "the number of its channels is not fixed"
        return filled(number, shape[1:2], dtype, b) if vector else b.scalar(number, dtype)
    fact = work.facts.get(value)
    if fact.dtype not in (None, dtype) or fact.shape is None:
        return f"'{value.name}' has another element type than the result, or an unknown shape"
    if vector:
        if fact.size != shape[1]:
            return f"'{value.name}' is not one number for each channel"
        return b.op("Reshape", work.now(value), b.constant(np.array([-1], np.int64)))
    sizes, now = fact.shape[-len(shape) :], work.now(value)
    if (factor := op.factors.get(name, 1.0)) != 1.0:
        now = _scaled(now, factor, dtype, b, constant=fact.constant)
    if all(size in (1, own) for size, own in zip(sizes[::-1], shape[::-1], strict=False)):
        return now
    return b.op("Reshape", now, b.constant(np.array([-1, *(1,) * (len(shape) - 2)], np.int64)))


def _fitted(work: Workspace, value: ir.Value, fact: Fact, row: Sequence[int], b: Builder) -> ir.Value | None:
    """The tensor in the shape of a row; None when that would take a broadcast at run time."""
    if fact.array is not None and fact.array.size == 1 and fact.dtype is not None:
        return filled(float(fact.array.reshape(())), row, fact.dtype, b)
    if int(np.prod(fact.shape or ())) != int(np.prod(row)):
        return None
    return b.op("Reshape", work.now(value), b.constant(np.array(row, np.int64)))


def filled(number: float, row: Sequence[int], dtype: ir.DataType, b: Builder) -> ir.Value:
    """A gain of one number: an expression of it, so that exact arithmetic reads it as the number it is."""
    if b.version < _EXPAND_SINCE:
        return b.filled(number, row, dtype)
    return b.op("Expand", b.scalar(number, dtype), b.constant(np.array(row, np.int64)))


def _scaled(value: ir.Value, factor: float, dtype: ir.DataType, b: Builder, *, constant: bool) -> ir.Value:
    """The tensor times a number; for a constant in double precision, unless the number is one of its type."""
    if not constant or float(np.asarray(factor).astype(numpy_type(dtype))) == factor:
        return b.op("Mul", value, b.scalar(factor, dtype))
    wide = b.op("Mul", b.op("Cast", value, to=int(ir.DataType.DOUBLE)), b.scalar(factor, ir.DataType.DOUBLE))
    return b.op("Cast", wide, to=int(dtype))
