"""The function of an attention operator, in plain ONNX operators.

It is written from the operator alone and computes in float32, so that any runtime runs it. A function of a
file is taken for it only where it is that function, node by node.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.patterns.attention.form import LOWEST
from tautomer.patterns.attention.operators import LAYOUTS, AttentionOperator, operator_named
from tautomer.patterns.attention.score_functions import weights_of
from tautomer.patterns.onnx_body import CASTLIKE_SINCE, DOMAIN, PARAMETERS_SINCE, Trace, Traced
from tautomer.patterns.same_function import same_function
from tautomer.patterns.smooth import softplus

_KINDS = {float: ir.AttributeType.FLOAT, int: ir.AttributeType.INT}
_PLAIN, _COLUMNS = LAYOUTS["h"], LAYOUTS["t"]
_AXES_INPUT_SINCE = 13  # of Unsqueeze; and Softmax works on any one axis since


def obstacle(version: int, dtype: ir.DataType | None) -> str:
    """Why the function cannot be written for this opset and type, or ""."""
    if dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return f"its element type is {dtype.name if dtype else 'not known'}, and kernels compute in FLOAT"
    needed = PARAMETERS_SINCE if dtype == ir.DataType.FLOAT else CASTLIKE_SINCE
    return f"its function body needs opset {needed}" if version < needed else ""


def is_written_by_us(function: ir.Function) -> bool:
    """Whether a function of a file, which is untrusted, is the one that its name says."""
    operator = operator_named(function.name) if function.domain == DOMAIN else None
    version = function.opset_imports.get("", 0)
    if operator is None or obstacle(version, ir.DataType.FLOAT):
        return False
    return same_function(function_of_attention(operator, version), function)


def function_of_attention(operator: AttentionOperator, version: int) -> ir.Function:
    """The function of an operator, for a model of this opset."""
    body = _Body(operator, version)
    b = body.builder
    y = body.result()
    y = b.op("CastLike", y, body.inputs["q"]) if version >= CASTLIKE_SINCE else b.op("Identity", y)
    y.name = "y"
    inputs = list(body.inputs.values())
    graph = ir.Graph(inputs, [y], nodes=b.nodes, opset_imports={"": version}, name=operator.name)
    attributes = [ir.Attr(name, _KINDS[kind], None) for name, kind in operator.attributes.items()]
    return ir.Function(DOMAIN, operator.name, graph=graph, attributes=attributes)


class _Body:
    """Writes the function."""

    def __init__(self, operator: AttentionOperator, version: int) -> None:
        self.operator, self.form = operator, operator.form
        self.builder = Builder(version, Names(()))
        self.inputs = {name: ir.Value(name=name) for name in operator.inputs}

    def number(self, name: str) -> ir.Value:
        """A number of the node."""
        kind = _KINDS[self.operator.attributes[name]]
        if kind == ir.AttributeType.FLOAT:
            return self.builder.op("Constant", value_float=ir.RefAttr("value_float", name, kind))
        return self.builder.op("Constant", value_int=ir.RefAttr("value_int", name, kind))

    def whole(self, *numbers: int) -> ir.Value:
        """Whole numbers."""
        return self.builder.constant(np.array(numbers, np.int64))

    def real(self, number: float) -> ir.Value:
        """A number that belongs to the form."""
        return self.builder.constant(np.array(number, np.float32))

    def widened(self, name: str) -> ir.Value:
        """An input in float32."""
        return self.builder.op("Cast", self.inputs[name], to=int(ir.DataType.FLOAT))

    def turned(
        self, x: ir.Value, layout: tuple[int, int, int, int], wanted: tuple[int, int, int, int]
    ) -> ir.Value:
        """A tensor with its axes in another order."""
        order = [layout.index(axis) for axis in wanted]
        return x if layout == wanted else self.builder.op("Transpose", x, perm=order)

    def size(self, shape: ir.Value, axis: int) -> ir.Value:
        """One size of a shape, as a tensor of one axis."""
        return self.builder.op("Slice", shape, self.whole(axis), self.whole(axis + 1), self.whole(0))

    def shared(self, x: ir.Value, heads: ir.Value) -> ir.Value:
        """k or v with one head for each of q: [B, G, ., .] -> [B, H, ., .]."""
        b = self.builder
        shape = b.op("Shape", x)
        times = b.op("Div", heads, self.size(shape, 1))
        one, axes = self.whole(1), self.whole(2)
        each = (
            b.op("Unsqueeze", x, axes) if b.version >= _AXES_INPUT_SINCE else b.op("Unsqueeze", x, axes=[2])
        )
        several = b.op("Expand", each, b.op("Concat", one, one, times, one, one, axis=0))
        sizes = (self.size(shape, 0), heads, self.size(shape, 2), self.size(shape, 3))
        return b.op("Reshape", several, b.op("Concat", *sizes, axis=0))

    def result(self) -> ir.Value:
        """y in float32."""
        b, form = self.builder, self.form
        layouts = [LAYOUTS[letter] for letter in self.operator.layouts]
        q = self.turned(self.widened("q"), layouts[0], _PLAIN)
        heads = self.size(b.op("Shape", q), 1)
        k = self.shared(self.turned(self.widened("k"), layouts[1], _COLUMNS), heads)
        v = self.shared(self.turned(self.widened("v"), layouts[2], _PLAIN), heads)
        # q is scaled, not the scores: products of large q and k then overflow last
        scores = b.op("MatMul", b.op("Mul", q, self.number("scale")), k)
        if form.softcap:
            cap = self.number("softcap")
            scores = b.op("Mul", b.op("Tanh", b.op("Div", scores, cap)), cap)
        scores = b.op("Add", scores, self.number("bias")) if form.score != "softmax" else scores
        positions = _Positions(self, scores) if self._by_position else None
        if form.alibi:
            assert positions is not None
            slopes = b.op("Reshape", self.widened("slopes"), self.whole(-1, 1, 1))
            scores = b.op("Add", scores, b.op("Mul", slopes, positions.distance()))
        if form.mask == "additive":
            scores = b.op("Add", scores, self.widened("mask"))
        if form.mask == "boolean":
            fill = LOWEST if form.empty == "mean" else -math.inf
            scores = b.op("Where", self.inputs["mask"], scores, self.real(fill))
        seen = positions.seen() if positions is not None else None
        if seen is not None:
            scores = b.op("Where", seen, scores, self.real(-math.inf))
        weights = self._weights(scores, positions, seen)
        if form.empty == "zero":
            weights = b.op("Where", b.op("IsNaN", weights), self.real(0.0), weights)
        return self.turned(b.op("MatMul", weights, v), _PLAIN, layouts[3])

    @property
    def _by_position(self) -> bool:
        form = self.form
        return bool(form.causal or form.window or form.lengths or form.alibi or form.function.second)

    def _weights(self, scores: ir.Value, positions: _Positions | None, seen: ir.Value | None) -> ir.Value:
        b, form = self.builder, self.form
        if form.score == "softmax":
            return b.op(
                "Softmax", scores, axis=-1 if b.version >= _AXES_INPUT_SINCE else 3
            )  # one kernel of every runtime
        m = _OfScores(b)
        extra: Any = None
        if form.sink:
            extra = Traced(m, b.op("Reshape", self.widened("sink"), self.whole(-1, 1, 1)))
        keys: Any = None
        offset: Any = 1.0
        if form.function.second is not None:
            assert positions is not None
            count = positions.count(seen)
            keys = Traced(m, count)
            more = b.op("Greater", count, b.op("Cast", self.number("free"), to=int(ir.DataType.FLOAT)))
            offset = Traced(m, b.op("Cast", more, to=int(ir.DataType.FLOAT)))
        function = form.function
        if function.weight is softplus:  # an operator of its own keeps what is left of far negative scores
            function = replace(function, weight=lambda m, s: m.op("Softplus", s))
        done: Traced = weights_of(
            m, function, Traced(m, scores), extra=extra, keys=keys, offset=offset, power=form.power
        )
        return done.value


class _OfScores(Trace):
    """The mathematics of values with four axes."""

    def shape(self, x: Any) -> Any:
        """As many sizes as there are axes; nobody asks which."""
        return (None,) * 4


class _Positions:
    """Numbers of queries and keys, as columns and rows."""

    def __init__(self, body: _Body, scores: ir.Value) -> None:
        self._body, self._b = body, body.builder
        b = self._b
        shape = b.op("Shape", scores)
        self.rows, self.columns = (
            b.op("Gather", shape, b.constant(np.array(axis, np.int64))) for axis in (2, 3)
        )
        zero, one = (b.constant(np.array(x, np.int64)) for x in (0, 1))
        self.j = b.op("Range", zero, self.columns, one)
        i = b.op("Reshape", b.op("Range", zero, self.rows, one), body.whole(-1, 1))
        self._end = b.op("Add", i, b.op("Sub", self.columns, self.rows))
        self.last = i if body.form.causal == "start" else self._end

    def distance(self) -> ir.Value:
        """How far a key is behind the query, the last query and the last key at one place."""
        return self._b.op("Cast", self._b.op("Sub", self.j, self._end), to=int(ir.DataType.FLOAT))

    def seen(self) -> ir.Value | None:
        """Which keys a query sees by their positions; None for all."""
        b, form = self._b, self._body.form
        parts = []
        if form.causal:
            parts.append(b.op("Not", b.op("Greater", self.j, self.last)))
        if form.window:
            parts.append(b.op("Greater", self.j, b.op("Sub", self.last, self._body.number("window"))))
        if form.lengths:
            lengths = b.op("Cast", self._body.inputs["lengths"], to=int(ir.DataType.INT64))
            lengths = b.op("Reshape", lengths, self._body.whole(-1, 1, 1, 1))
            parts.append(b.op("Less", self.j, lengths))
        found = parts[0] if parts else None
        for part in parts[1:]:
            found = b.op("And", found, part)
        return found

    def count(self, seen: ir.Value | None) -> ir.Value:
        """How many keys a query sees by their positions."""
        b = self._b
        if seen is None:
            return b.op("Cast", self.columns, to=int(ir.DataType.FLOAT))
        return b.reduce("ReduceSum", b.op("Cast", seen, to=int(ir.DataType.FLOAT)), [-1])
