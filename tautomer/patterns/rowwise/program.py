"""Rowwise operators: a program of pointwise operations and row reductions, as one operator with its function.

    tautomer.Rowwise_<hash>(x, operand, ...) = the function of that name in the file

The function is made of plain ONNX operators and computes in float32, so that any runtime runs it. Its inputs
say by their names how they go with x:

    full    of the shape of x
    row     of the shape of a row, the same for every row
    block   of the shape of a row, for some of the axes before: [B, 1, D] beside [B, T, D]
    column  one number per row, or for some of the axes before
    number  one number
    segment one number for each part of each row of an example: for the channels of an image

Rows lie along the last axes of x (attribute `axis`, as of LayerNormalization). Or every element of the first
axis is an example, cut into `groups` rows of `segments` equal parts (as by GroupNormalization).

Results are called `y`, `y1`, ... where they are of the shape of x, and behind these `per_row`, `per_row1`,
... where they are one number for each row: then the axes of a row have the size 1 in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder, Names
from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.patterns.onnx_body import CASTLIKE_SINCE, DOMAIN
from tautomer.patterns.operation import PER_ROW, WHOLE_PARAMETERS

PREFIX = "Rowwise_"
_VALUE_INT_SINCE = 12


@dataclass(frozen=True)
class Layout:
    """Where rows lie in x.

    Attributes:
        axes: how many last axes make a row, at least 1.
        grouped: whether x is looked at as [first axis, groups, segments, the rest], whose last two axes make
            a row.
    """

    axes: int = 1
    grouped: bool = False

    @property
    def reduced(self) -> list[int]:
        """The axes of a reduction."""
        return list(range(-2 if self.grouped else -self.axes, 0))


def is_rowwise(op: str) -> bool:
    """Whether an operator of the domain `tautomer` is one of these."""
    return op.startswith(PREFIX)


def shapes_of_results(function: ir.Function, node: ir.Node, shape: Shape) -> list[Shape]:
    """The shapes of what a node gives.

    Args:
        function: the node's.
        node: one of these operators.
        shape: of x.
    """
    axes = -node.attributes.get_int("axis", -1)
    per_row = (*shape[:-axes], *(1 for _ in shape[-axes:]))
    return [per_row if str(value.name).startswith(PER_ROW) else shape for value in function.outputs]


def names_of_results(whole: int, per_row: int) -> list[str]:
    """What results are called: so many of the shape of x, then so many of one number per row."""
    counts = {"y": whole, PER_ROW: per_row}
    return [f"{name}{index or ''}" for name, count in counts.items() for index in range(count)]


class Body:
    """The function of a rowwise operator while it is written.

    Args:
        version: the opset of the model.
        layout: where its rows lie.
        kinds: those of the operands after x.

    Attributes:
        builder: collects the nodes.
        inputs: the function's inputs, x first.
        values: the same in float32, in shapes that broadcast against each other.
    """

    def __init__(self, version: int, layout: Layout, kinds: Sequence[str]) -> None:
        self.layout = layout
        self.builder = Builder(version, Names(()))
        names = ["x", *(f"{kind}{index}" for index, kind in enumerate(kinds, 1))]
        self.inputs = [ir.Value(name=name) for name in names]
        b = self.builder
        self.values = [b.op("Cast", value, to=int(ir.DataType.FLOAT)) for value in self.inputs]
        if layout.grouped:
            self._look_at_groups(["full", *kinds])

    def _look_at_groups(self, kinds: Sequence[str]) -> None:
        b = self.builder
        groups, segments = (
            b.op("Reshape", b.op("Constant", value_int=_reference(name)), b.constant(np.array([1])))
            for name in WHOLE_PARAMETERS
        )
        first, rest, one = (b.constant(np.array([size])) for size in (0, -1, 1))
        shapes = {
            "full": b.op("Concat", first, groups, segments, rest, axis=0),
            "segment": b.op("Concat", groups, segments, one, axis=0),
            "column": b.op("Concat", rest, groups, one, one, axis=0),
        }
        for index, kind in enumerate(kinds):
            if kind in shapes:
                self.values[index] = b.op("Reshape", self.values[index], shapes[kind])

    def finish(self, *results: ir.Value, per_row: int = 0) -> ir.Function:
        """The function that gives these values, in x's type.

        Args:
            results: values in float32.
            per_row: how many of them, the last ones, are one number per row; the others are of x's shape.
        """
        b, x = self.builder, self.inputs[0]
        given = []
        for result, name in zip(results, names_of_results(len(results) - per_row, per_row), strict=True):
            whole = b.op("Reshape", result, b.op("Shape", x)) if self.layout.grouped else result
            y = b.op("CastLike", whole, x) if b.version >= CASTLIKE_SINCE else b.op("Identity", whole)
            y.name = name
            given.append(y)
        name = PREFIX + fingerprint(self.layout, self.inputs, b.nodes)
        graph = ir.Graph(self.inputs, given, nodes=b.nodes, opset_imports={"": b.version}, name=name)
        names = WHOLE_PARAMETERS if self.layout.grouped else ("axis",)
        attributes = [ir.Attr(one, ir.AttributeType.INT, None) for one in names]
        return ir.Function(DOMAIN, name, graph=graph, attributes=attributes)


def obstacle(version: int, layout: Layout, dtype: ir.DataType) -> str:
    """Why the function cannot be written for this opset and type, or ""."""
    if dtype != ir.DataType.FLOAT and version < CASTLIKE_SINCE:
        return f"its function body needs opset {CASTLIKE_SINCE}"
    if layout.grouped and version < _VALUE_INT_SINCE:
        return f"its function body needs opset {_VALUE_INT_SINCE}"
    return ""


def _reference(name: str) -> ir.Attr:
    return ir.RefAttr("value_int", name, ir.AttributeType.INT)


def fingerprint(layout: object, inputs: Sequence[ir.Value], nodes: Sequence[ir.Node]) -> str:
    """A hash of what nodes compute: of operators, attributes and edges, not of the names of values.

    Args:
        layout: plain data that is not in the nodes, and is part of what they are.
        inputs: what they compute from.
        nodes: in their order.
    """
    number: dict[ir.Value | None, str] = {None: "-"}
    number |= {value: str(value.name) for value in inputs}
    lines = [f"{layout}", *number.values()]
    for node in nodes:
        attributes = sorted(described(node).items())
        lines.append(f"{node.domain}.{node.op_type} {attributes} {[number.get(v, '?') for v in node.inputs]}")
        number |= {value: str(len(number)) for value in node.outputs}
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def described(node: ir.Node) -> dict[str, str]:
    """A node's attributes as text: equal for equal ones."""
    texts = {name: _text(value) for name, value in call_of(node, 0).attributes.items()}
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            texts[name] = f"@{attribute.ref_attr_name}"
        elif name not in texts:
            texts[name] = "a graph"
    return texts


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    return value.hex() if isinstance(value, float) else repr(value)
