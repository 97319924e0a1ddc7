"""A rowwise operator's function, read back as a definition: what kernels are generated from.

The function comes from a file, which is untrusted. So it is taken only where it is exactly what
`patterns.rowwise` writes around operators of a fixed list, each in a form that this list allows; of its text
nothing is kept but numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.errors import InputError
from tautomer.graph.call import Call, call_of
from tautomer.graph.naming import printable
from tautomer.graph.semantics.table import evaluate
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.operation import PER_ROW, WHOLE_PARAMETERS, Definition, Rows, definition_of, kind_of
from tautomer.patterns.rowwise.program import (
    PREFIX,
    Body,
    Layout,
    described,
    fingerprint,
    is_rowwise,
    names_of_results,
)

POINTWISE = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Sum", "Mean", "Pow", "Sqrt", "Reciprocal"),
        *("Exp", "Log", "Erf", "Tanh", "Sigmoid", "Relu", "Clip", "Where", "Identity"),
        *("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "IsNaN"),
    }
)
"""Primitive operators that may stand in a body; operations that have a pointwise definition may, too."""

REDUCTIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "ReduceSum": lambda m, x: m.sum(x),
    "ReduceMean": lambda m, x: m.mean(x),
    "ReduceMax": lambda m, x: m.max(x),
    "ReduceMin": lambda m, x: -m.max(-x),
    "ReduceSumSquare": lambda m, x: m.sum(x * x),
    "ReduceL1": lambda m, x: m.sum(m.abs(x)),
    "ReduceL2": lambda m, x: m.sqrt(m.sum(x * x)),
    "ReduceLogSum": lambda m, x: m.log(m.sum(x)),
    "ReduceLogSumExp": lambda m, x: _log_sum_exp(m, x),
}
"""What is reduced over a row."""

TWICE = frozenset({"ReduceLogSumExp"})
"""Those of them that wait for another reduction of the same values."""

_LARGEST_POWER = 64
_MOST_NODES = 500
_MOST_AXES = 64
_OF_ELEMENTS = ("full", "row", "block", "segment")
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class _Step:
    """One operator of a body: what it does to values of a domain, which it reads, and the one it gives."""

    function: Callable[[Any, Sequence[Any]], Any]
    reads: tuple[ir.Value, ...]
    gives: ir.Value


def _log_sum_exp(m: Any, x: Any) -> Any:
    """log(sum(exp(x))); the maximum itself where it is infinite, as of rows that are masked."""
    top = m.max(x)
    return m.where(m.isinf(top), top, m.log(m.sum(m.exp(x - top))) + top)


def definition_in(function: ir.Function, attributes: Mapping[str, Any]) -> Definition:
    """The definition that a function is, for nodes with these attributes.

    Args:
        function: a function of the domain `tautomer` whose name begins with Rowwise_.
        attributes: of the nodes; `axis` says how many axes make a row.

    Raises:
        InputError: the function is not one that we write.
    """
    where = f"function '{function.name}'"
    nodes, inputs = list(function.graph), list(function.inputs)
    kinds = [kind_of(str(value.name)) for value in inputs[1:]]
    if not is_rowwise(function.name) or len(nodes) > _MOST_NODES or not inputs:
        raise InputError("it is no rowwise operator", where=where)
    layout = _layout(function, attributes, where)
    body = Body(function.opset_imports.get("", 0), layout, kinds)
    middle, values, results = _inside(function, nodes, body, where)
    if PREFIX + fingerprint(layout, inputs, nodes) != function.name:
        raise InputError("its name is not that of what it computes", where=where)
    reader = _Reader(layout, function.opset_imports.get("", 0), where, values, kinds)
    steps = [step for node in middle if (step := reader.step(node)) is not None]
    if not steps:
        raise InputError("it computes nothing", where=where)

    names = tuple(str(value.name) for value in inputs[1:])
    per_row = [value for value in results if value not in reader.elements]
    named = tuple(names_of_results(len(results) - len(per_row), len(per_row)))
    of_all_rows = all(value in reader.of_all_rows for value in results)
    if (
        tuple(value.name for value in function.outputs) != named
        or per_row != results[len(results) - len(per_row) :]
        or not of_all_rows
    ):
        raise InputError("its results are not what their names say", where=where)
    if per_row and layout.grouped:
        raise InputError("there is one number per row, and rows are cut into groups", where=where)

    def evaluate_body(m: Any, x: Any, **given: Any) -> Any:
        found = dict(zip(values, (x, *(given[name] for name in names)), strict=True))
        found |= {value: m.constant(number) for value, number in reader.numbers.items()}
        for step in steps:
            found[step.gives] = step.function(m, [found[value] for value in step.reads])
        return tuple(found[value] for value in results) if len(results) > 1 else found[results[0]]

    in_rows = reader.reduces or any(kind not in ("full", "number") for kind in kinds)
    rows: Rows = "" if not in_rows else "groups" if layout.grouped else "trailing"
    if len(per_row) == len(results):
        rows = "folded"
    parameters = dict.fromkeys(WHOLE_PARAMETERS, 1.0) if layout.grouped and "segment" in kinds else {}
    return Definition(
        function.name,
        evaluate_body,
        rows,
        DOMAIN,
        operands=names,
        parameters=parameters,
        formula=function.name,
        results=named,
    )


def small_power(exponent: float) -> bool:
    """Whether a power is one that a kernel computes by products and a root."""
    return abs(exponent) == 0.5 or (exponent % 1.0 == 0.0 and 0.0 < abs(exponent) <= _LARGEST_POWER)


def _layout(function: ir.Function, attributes: Mapping[str, Any], where: str) -> Layout:
    if list(function.attributes) == list(WHOLE_PARAMETERS):
        return Layout(grouped=True)
    axis = attributes.get("axis")
    if list(function.attributes) != ["axis"] or not isinstance(axis, int) or not -_MOST_AXES <= axis < 0:
        raise InputError("it does not say where its rows lie", where=where)
    return Layout(-axis)


def _inside(
    function: ir.Function, nodes: list[ir.Node], body: Body, where: str
) -> tuple[list[ir.Node], list[ir.Value], list[ir.Value]]:
    """The nodes between what every body begins and ends with, what they start from, and what is given."""
    before = len(body.builder.nodes)
    opening = list(body.builder.nodes)
    placeholders = [ir.Value(name="result") for _ in function.outputs]
    per_row = sum(str(value.name).startswith(PER_ROW) for value in function.outputs)
    ours = body.finish(*placeholders, per_row=per_row)
    closing = body.builder.nodes[before:]
    middle = nodes[before : max(before, len(nodes) - len(closing))]
    computed = {value: None for node in middle for value in node.outputs}
    known: dict[ir.Value | None, ir.Value | None] = {None: None}
    known |= zip(body.inputs, function.inputs, strict=False)
    for a, b in zip(closing, nodes[len(nodes) - len(closing) :], strict=False):
        if a.inputs[0] in placeholders and b.inputs and b.inputs[0] in computed:
            known[a.inputs[0]] = b.inputs[0]
    results = [value for one in placeholders if (value := known.get(one)) is not None]
    alike = [value.name for value in body.inputs] == [value.name for value in function.inputs]
    alike = alike and _same(opening, nodes[:before], known)
    alike = alike and _same(closing, nodes[len(nodes) - len(closing) :], known)
    alike = alike and len(results) == len(placeholders) > 0 and middle[-1].outputs[0] in results
    if not alike or [known[value] for value in ours.outputs] != list(function.outputs):
        raise InputError("it is not a function that we write", where=where)
    return middle, [value for old in body.values if (value := known[old]) is not None], results


def _same(
    ours: Sequence[ir.Node], theirs: Sequence[ir.Node], known: dict[ir.Value | None, ir.Value | None]
) -> bool:
    """Whether nodes are the same, given which values are; says so of the values that they give."""
    for a, b in zip(ours, theirs, strict=True):
        if (a.domain, a.op_type, described(a)) != (b.domain, b.op_type, described(b)):
            return False
        if len(b.outputs) != 1 or [known.get(value) for value in a.inputs] != list(b.inputs):
            return False
        known[a.outputs[0]] = b.outputs[0]
    return len(ours) == len(theirs)


class _Reader:
    """Reads the operators of a body.

    Attributes:
        numbers: the constants that are numbers.
        elements: the values that differ within a row.
        of_all_rows: those that have every row of x, or a number of each.
        reduces: whether anything works on whole rows.
    """

    def __init__(
        self, layout: Layout, version: int, where: str, values: Sequence[ir.Value], kinds: Sequence[str]
    ) -> None:
        self._layout, self._version, self._where = layout, version, where
        self._known = dict.fromkeys(values)
        goes_with = dict(zip(values, ("full", *kinds), strict=True))
        self._columns = [value for value, kind in goes_with.items() if kind == "column"]
        self.elements = {value: None for value, kind in goes_with.items() if kind in _OF_ELEMENTS}
        self.of_all_rows = {value: None for value, kind in goes_with.items() if kind == "full"}
        self._flat: dict[ir.Value, ir.Value] = {}
        self._axes: dict[ir.Value, list[int]] = {}
        self.numbers: dict[ir.Value, NDArray[Any]] = {}
        self.reduces = False

    def step(self, node: ir.Node) -> _Step | None:
        """What a node does; None for a constant."""
        plain = all(not one.is_ref() and one.type not in _GRAPHS for one in node.attributes.values())
        if node.domain != "" or len(node.outputs) != 1 or node.outputs[0] in self._known or not plain:
            raise self._refused(node)
        if node.op_type == "Constant":
            self._constant(node)
            return None
        if node.op_type in ("Reshape", "InstanceNormalization"):
            return self._normalized(node)
        call = call_of(node, self._version)
        function = self._reduction(node, call) or self._pointwise(node, call) or self._named(call)
        reads = [value for value in node.inputs if value is not None and value not in self._axes]
        if function is None or len(reads) + (node.op_type in REDUCTIONS and len(node.inputs) - 1) != len(
            node.inputs
        ):
            raise self._refused(node)
        if any(value not in self._known for value in reads):
            raise self._refused(node)
        return self._made(node, function, tuple(reads))

    def _made(
        self, node: ir.Node, function: Callable[[Any, Sequence[Any]], Any], reads: tuple[ir.Value, ...]
    ) -> _Step:
        self._known[node.outputs[0]] = None
        if node.op_type not in REDUCTIONS and any(value in self.elements for value in reads):
            self.elements[node.outputs[0]] = None
        if any(value in self.of_all_rows for value in reads):
            self.of_all_rows[node.outputs[0]] = None
        return _Step(function, reads, node.outputs[0])

    def _normalized(self, node: ir.Node) -> _Step | None:
        """InstanceNormalization, whose gain and shift are operands of the kind column as vectors."""
        first, *rest = node.inputs
        if node.op_type == "Reshape":
            minus_one = len(rest) == 1 and rest[0] is not None and self._axes.get(rest[0]) == [-1]
            if not minus_one or first not in self._columns or len(node.attributes):
                raise self._refused(node)
            self._flat[node.outputs[0]] = first
            return None
        epsilon = call_of(node, self._version).attributes.get("epsilon")
        operands = [self._flat.get(value) for value in rest if value is not None]
        norm = definition_of("LayerNormalization")
        known = first in self._known and len(rest) == len(operands) == 2 and None not in operands
        if (
            not self._layout.grouped
            or not known
            or not isinstance(epsilon, float)
            or len(node.attributes) != 1
        ):
            raise self._refused(node)
        assert norm is not None
        assert first is not None
        self.reduces = True
        reads = (first, *(value for value in operands if value is not None))
        return self._made(node, lambda m, x: norm.function(m, *x, epsilon=epsilon), reads)

    def _refused(self, node: ir.Node) -> InputError:
        return InputError(f"no kernel is written for {printable(node.op_type, 40)} there", where=self._where)

    def _constant(self, node: ir.Node) -> None:
        attribute = node.attributes.get("value")
        tensor = None if attribute is None or len(node.attributes) != 1 else attribute.as_tensor()
        if tensor is None or tensor.size > _MOST_AXES:
            raise self._refused(node)
        array = tensor.numpy()
        if array.dtype == np.float32 and array.shape == ():
            self.numbers[node.outputs[0]] = array
            self._known[node.outputs[0]] = None
        elif array.dtype == np.int64 and array.ndim == 1:
            self._axes[node.outputs[0]] = array.tolist()
        else:
            raise self._refused(node)

    def _reduction(self, node: ir.Node, call: Call) -> Callable[[Any, Sequence[Any]], Any] | None:
        reduce = REDUCTIONS.get(node.op_type)
        if reduce is None:
            return None
        axes = call.get("axes")
        if len(node.inputs) == 2 and node.inputs[1] is not None:
            axes = self._axes.get(node.inputs[1]) if axes is None else None
        expected = {"keepdims": 1, **({"axes": axes} if "axes" in call.attributes else {})}
        if axes != self._layout.reduced or dict(call.attributes) != expected or len(node.inputs) > 2:
            raise self._refused(node)
        self.reduces = True
        return lambda m, x: reduce(m, *x)

    def _pointwise(self, node: ir.Node, call: Call) -> Callable[[Any, Sequence[Any]], Any] | None:
        if call.op_type not in POINTWISE:
            return None
        if call.op_type == "Pow":
            exponent = self.numbers.get(node.inputs[1]) if len(node.inputs) == 2 and node.inputs[1] else None
            if exponent is None or not small_power(float(exponent)):
                raise self._refused(node)
        return lambda m, x: evaluate(m, call, x)[0]

    def _named(self, call: Call) -> Callable[[Any, Sequence[Any]], Any] | None:
        """An operation of ONNX that has a definition."""
        definition = definition_of(call.op_type, call.attributes)
        if definition is None or definition.domain or definition.rows == "folded":
            return None
        given = {name: value for name, value in call.attributes.items() if name not in definition.attributes}
        if definition.rows:
            if given.pop("axis", None) != -1 or self._layout != Layout():
                return None
            self.reduces = True
        known = definition.parameters
        if not all(name in known and isinstance(value, float) for name, value in given.items()):
            return None
        return lambda m, x: definition.function(m, *x, **{**known, **given})
