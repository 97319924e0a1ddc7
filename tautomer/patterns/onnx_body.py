"""An operation as a model-local ONNX function: its definition, traced into plain ONNX operators.

A file that uses an operator of the domain `tautomer` carries the function, so it runs on any runtime. The
body computes in float32 whatever the type of its input, works on the last axis, and reads its parameters
from the node's attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.patterns.operation import Definition
from tautomer.patterns.rows import apply, apply_all

CASTLIKE_SINCE = 15
PARAMETERS_SINCE = 12  # Constant has value_float from then on, which can refer to an attribute
DOMAIN = "tautomer"
DOMAIN_VERSION = 1


def function_of(definition: Definition, version: int) -> ir.Function:
    """The function of a definition for a model of this opset.

    Args:
        definition: any operation that is defined by one function.
        version: the model's version of ONNX's own domain; the body uses only operators it has.
    """
    builder = Builder(version, Names(()))
    m = Trace(builder)
    x, *operands = (ir.Value(name=name) for name in ("x", *definition.operands))
    parameters: dict[str, Any] = {
        name: _parameter(m, builder, name, value) for name, value in definition.parameters.items()
    }
    widened = [Traced(m, builder.op("Cast", value, to=int(ir.DataType.FLOAT))) for value in (x, *operands)]
    results = apply_all(
        definition,
        m,
        widened[0],
        axes=(-1,) if definition.rows else (),
        operands=dict(zip(definition.operands, widened[1:], strict=True)),
        parameters=parameters,
    )
    outputs = [_narrowed(builder, result.value, x) for result in results]
    for output, name in zip(outputs, definition.results, strict=True):
        output.name = name
    graph = ir.Graph(
        [x, *operands], outputs, nodes=builder.nodes, opset_imports={"": version}, name=definition.op
    )
    attributes = [ir.Attr(name, _type_of(value), None) for name, value in definition.parameters.items()]
    attributes += [ir.Attr(name, ir.AttributeType.STRING, None) for name in definition.attributes]
    attributes += [ir.Attr("axis", ir.AttributeType.INT, None)] if definition.rows else []
    return ir.Function(DOMAIN, definition.op, graph=graph, attributes=attributes)


def _type_of(parameter: Any) -> ir.AttributeType:
    return ir.AttributeType.FLOATS if isinstance(parameter, tuple) else ir.AttributeType.FLOAT


def _parameter(m: Trace, b: Builder, name: str, default: Any) -> Any:
    """A parameter as the node's attribute of its name; of several numbers, as many as it has by default."""
    if not isinstance(default, tuple):
        one = ir.RefAttr("value_float", name, ir.AttributeType.FLOAT)
        return Traced(m, b.op("Constant", value_float=one))
    value = b.op("Constant", value_floats=ir.RefAttr("value_floats", name, ir.AttributeType.FLOATS))
    places = (b.constant(np.array(index, np.int64)) for index in range(len(default)))
    return tuple(Traced(m, b.op("Gather", value, place, axis=0)) for place in places)


def _narrowed(b: Builder, result: ir.Value, x: ir.Value) -> ir.Value:
    return b.op("CastLike", result, x) if b.version >= CASTLIKE_SINCE else b.op("Identity", result)


def written(
    definition: Definition,
    builder: Builder,
    x: ir.Value,
    *,
    axes: tuple[int, ...] = (),
    operands: Mapping[str, ir.Value] | None = None,
    parameters: Mapping[str, Any] | None = None,
    numbers: Mapping[float, ir.Value] | None = None,
) -> ir.Value:
    """Writes a definition as plain ONNX operators; returns its first result.

    Args:
        definition, builder, x, axes, operands, parameters: what is written of what.
        numbers: values that hold parameters, by the number; the others are written down.
    """
    m = Trace(builder)
    held = {number: Traced(m, value) for number, value in (numbers or {}).items()}
    parameters = {
        name: tuple(held.get(one, one) for one in value)
        if isinstance(value, tuple)
        else held.get(value, value)
        for name, value in (parameters or {}).items()
    }
    traced = {name: Traced(m, value) for name, value in (operands or {}).items()}
    result = apply(definition, m, Traced(m, x), axes=axes, operands=traced, parameters=parameters)
    value: ir.Value = result.value
    return value


class Traced:
    """A value of the function being written; arithmetic on it writes nodes."""

    def __init__(self, m: Trace, value: ir.Value) -> None:
        self.m, self.value = m, value

    def __add__(self, other: Any) -> Traced:
        return self.m.op("Add", self, other)

    def __radd__(self, other: Any) -> Traced:
        return self.m.op("Add", other, self)

    def __sub__(self, other: Any) -> Traced:
        return self.m.op("Sub", self, other)

    def __rsub__(self, other: Any) -> Traced:
        return self.m.op("Sub", other, self)

    def __mul__(self, other: Any) -> Traced:
        # the spelling of a square that runtimes look for is a power
        return self.m.op("Pow", self, 2.0) if self is other else self.m.op("Mul", self, other)

    def __rmul__(self, other: Any) -> Traced:
        return self.m.op("Mul", other, self)

    def __truediv__(self, other: Any) -> Traced:
        return self.m.op("Div", self, other)

    def __rtruediv__(self, other: Any) -> Traced:
        return self.m.op("Div", other, self)

    def __neg__(self) -> Traced:
        return self.m.op("Neg", self)


class _Sizes:
    """The extents of a value, which are known when the function runs; as numbers of its own type."""

    def __init__(self, m: Trace, builder: Builder, x: ir.Value) -> None:
        self.m, self._b, self._x = m, builder, x

    def __getitem__(self, axis: int) -> Traced:
        axes = self._b.constant(np.array(axis, np.int64))
        size = self._b.op("Gather", self._b.op("Shape", self._x), axes)
        return Traced(self.m, self._b.op("Cast", size, to=int(ir.DataType.FLOAT)))


class Trace:
    """The mathematics whose values are nodes. Only what definitions use is here."""

    def __init__(self, builder: Builder) -> None:
        self._b = builder

    def op(self, op_type: str, *operands: Any) -> Traced:
        return Traced(self, self._b.op(op_type, *(self._lift(operand) for operand in operands)))

    def _lift(self, operand: Any) -> ir.Value:
        if isinstance(operand, Traced):
            return operand.value
        return self._b.constant(np.asarray(operand, dtype=np.float32))

    def shape(self, x: Traced) -> _Sizes:
        return _Sizes(self, self._b, x.value)

    def _reduce(self, op_type: str, x: Traced, axes: tuple[int, ...]) -> Traced:
        return Traced(self, self._b.reduce(op_type, x.value, axes))

    def mean(self, x: Traced, axes: tuple[int, ...], keepdims: bool) -> Traced:
        return self._reduce("ReduceMean", x, axes)

    def sum(self, x: Traced, axes: tuple[int, ...], keepdims: bool) -> Traced:
        return self._reduce("ReduceSum", x, axes)

    def amax(self, x: Traced, axes: tuple[int, ...], keepdims: bool) -> Traced:
        return self._reduce("ReduceMax", x, axes)

    def exp(self, x: Any) -> Traced:
        return self.op("Exp", x)

    def expm1(self, x: Any) -> Traced:
        return self.op("Sub", self.exp(x), 1.0)

    def log(self, x: Any) -> Traced:
        return self.op("Log", x)

    def log1p(self, x: Any) -> Traced:
        return self.op("Log", self.op("Add", x, 1.0))

    def sqrt(self, x: Any) -> Traced:
        return self.op("Sqrt", x)

    def rsqrt(self, x: Any) -> Traced:
        return self.op("Reciprocal", self.sqrt(x))

    def erf(self, x: Any) -> Traced:
        return self.op("Erf", x)

    def tanh(self, x: Any) -> Traced:
        return self.op("Tanh", x)

    def sigmoid(self, x: Any) -> Traced:
        return self.op("Sigmoid", x)

    def power(self, x: Any, y: float) -> Traced:
        return self.op("Pow", x, float(y))

    def abs(self, x: Any) -> Traced:
        return self.op("Abs", x)

    def maximum(self, a: Any, b: Any) -> Traced:
        return self.op("Max", a, b)

    def minimum(self, a: Any, b: Any) -> Traced:
        return self.op("Min", a, b)

    def compare(self, relation: str, a: Any, b: Any) -> Traced:
        return self.op({"<": "Less", ">": "Greater", "==": "Equal"}[relation], a, b)

    def isnan(self, x: Any) -> Traced:
        return self.op("IsNaN", x)

    def where(self, condition: Traced, a: Any, b: Any) -> Traced:
        return self.op("Where", condition, a, b)
