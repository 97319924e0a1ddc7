"""The function of a rowwise region: its nodes, written again on rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import Call, call_of
from tautomer.passes.rowwise.nodes import CHANNELS, MOVES, Sizes, Unfit, stands_for
from tautomer.passes.rowwise.region import Region
from tautomer.patterns.meaning import named
from tautomer.patterns.onnx_body import written
from tautomer.patterns.operation import definition_of
from tautomer.patterns.rowwise.program import Body
from tautomer.patterns.rowwise.vocabulary import POINTWISE, REDUCTIONS, TWICE


@dataclass(frozen=True)
class Written:
    """A region as a function.

    Attributes:
        function: what it computes.
        inputs: what the operator reads, in the order of the function's inputs.
        attributes: of the operator.
        passes: how often a row is gone through.
    """

    function: ir.Function
    inputs: tuple[ir.Value, ...]
    attributes: dict[str, int]
    passes: int


def written_region(region: Region, sizes: Sizes, version: int, given: Collection[int] = ()) -> Written:
    """Writes the function of a region.

    Args:
        region: the region.
        sizes: shapes and contents.
        version: the opset.
        given: which of its numbers become operands; the others are written into the function.

    Raises:
        Unfit: it cannot be written.
    """
    extra = [region.numbers[index] for index in given]
    inputs = (*(value for value, _ in region.operands), *extra)
    kinds = [*(kind for _, kind in region.operands[1:]), *["number"] * len(extra)]
    writing = _Writing(region, sizes, version, Body(version, region.cut.layout, kinds), inputs)
    for node in region.nodes:
        writing.node(node)
    if any(value not in writing.elements for value in region.whole):
        raise Unfit("it is the same for all elements of a row")
    attributes = {"axis": -region.cut.layout.axes}
    if region.cut.layout.grouped:
        attributes = {"groups": region.cut.groups, "segments": region.segments}
    results = [writing.values[value] for value in region.results]
    function = writing.body.finish(*results, per_row=len(region.per_row))
    passes = max(writing.levels[value] + (value in region.whole) for value in region.results)
    return Written(function, inputs, attributes, passes)


class _Writing:
    """Writes nodes, and knows of every value whether it differs within a row and what it waits for."""

    def __init__(
        self, region: Region, sizes: Sizes, version: int, body: Body, inputs: tuple[ir.Value, ...]
    ) -> None:
        self.region, self.sizes, self.version, self.body = region, sizes, version, body
        self.values = dict(zip(inputs, body.values, strict=True))
        self.elements = {value: None for value, kind in region.operands if kind == "full"}
        self.levels = dict.fromkeys(inputs, 0)
        for value in region.numbers:
            if value not in self.values:
                array = sizes.fact(value).array
                assert array is not None
                self.values[value] = body.builder.constant(np.asarray(array, np.float32).reshape(()))
                self.levels[value] = 0

    def node(self, node: ir.Node) -> None:
        """Writes a node."""
        call = call_of(node, self.version)
        reads = self.region.reads[node]
        inputs = [self.values[read.value] for read in reads]
        differs = any(read.value in self.elements for read in reads)
        level = max(self.levels[read.value] for read in reads)
        output = node.outputs[0]
        plain = node.domain in ("", "ai.onnx")
        if plain and node.op_type in MOVES:
            result, reduces = self._moved(node, inputs[0]), 0
        elif plain and node.op_type in CHANNELS:
            result, reduces = self._channels(call, inputs)
        elif plain and node.op_type in REDUCTIONS:
            result = self.body.builder.reduce(node.op_type, inputs[0], self.body.layout.reduced)
            reduces = 1 + (node.op_type in TWICE)
        else:
            result, reduces = self._operation(node, call, inputs)
        if reduces and not differs:
            raise Unfit("it reduces what is the same for all elements of a row")
        self.values[output] = result
        self.levels[output] = level + reduces
        if differs and not (plain and node.op_type in REDUCTIONS):
            self.elements[output] = None

    def _moved(self, node: ir.Node, value: ir.Value) -> ir.Value:
        """The value itself; the number that a truth is cast to, which is 1 or 0."""
        before, after = (self.sizes.fact(each).dtype for each in (node.inputs[0], node.outputs[0]))
        if before != ir.DataType.BOOL or after == ir.DataType.BOOL:
            return value
        one, none = (self.body.builder.constant(np.asarray(number, np.float32)) for number in (1.0, 0.0))
        return self.body.builder.op("Where", value, one, none)

    def _operation(self, node: ir.Node, call: Call, inputs: list[ir.Value]) -> tuple[ir.Value, int]:
        """A pointwise node as it is, a named operation by its definition."""
        b = self.body.builder
        if node.op_type == "PRelu" and node.domain in ("", "ai.onnx"):
            x, slope = inputs
            negative = b.op("Min", x, b.constant(np.asarray(0.0, np.float32)))
            return b.op("Add", b.op("Relu", x), b.op("Mul", slope, negative)), 0
        definition = stands_for(call)
        plain = node.domain in ("", "ai.onnx")
        rows = definition is not None and definition.rows
        if plain and not rows and (node.op_type in POINTWISE or definition is not None):
            return b.op(node.op_type, *inputs, **call.attributes), 0
        found = named(call)
        if found is None:
            raise Unfit("nobody has said what it means")
        definition, attributes = found
        if plain and definition.rows == "axis" and self.body.layout.reduced == [-1]:
            return b.op(node.op_type, *inputs, axis=-1), 2
        result = written(
            definition,
            b,
            inputs[0],
            axes=tuple(self.body.layout.reduced) if definition.rows else (),
            operands=dict(zip(definition.operands, inputs[1:], strict=False)),
            parameters={name: attributes[name] for name in definition.parameters if name in attributes},
        )
        return result, 2 if definition.rows else 0

    def _channels(self, call: Call, inputs: list[ir.Value]) -> tuple[ir.Value, int]:
        """A norm with numbers for each channel, and how often it reduces."""
        b = self.body.builder
        epsilon = float(call.get("epsilon", 1e-5))
        x, scale, bias, *statistics = inputs
        if call.op_type == "InstanceNormalization":  # the runtime's own is more exact than what it is made of
            flat = [b.op("Reshape", value, b.constant(np.array([-1]))) for value in (scale, bias)]
            return b.op("InstanceNormalization", x, *flat, epsilon=epsilon), 2
        if statistics:
            mean, variance = statistics
            root = b.op("Sqrt", b.op("Add", variance, b.constant(np.asarray(epsilon, np.float32))))
            y = b.op("Div", b.op("Sub", x, mean), root)
        else:
            norm = definition_of("LayerNormalization")
            assert norm is not None
            axes = tuple(self.body.layout.reduced)
            y = written(norm, b, x, axes=axes, parameters={"epsilon": epsilon})
        return b.op("Add", b.op("Mul", y, scale), bias), 0 if statistics else 2
