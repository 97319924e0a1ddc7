"""The operators of a rowwise body, each read as a function over values of a domain.

    node -> y = f(m, operands), f of an element, of a row, or of the rows of a group

Condition: the operator is of the vocabulary, in the one form in which bodies have it, and reads what is known
by then. All else is refused: the body comes from a file, which is untrusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.errors import InputError
from tautomer.graph.call import Call, call_of
from tautomer.graph.naming import printable
from tautomer.graph.semantics.table import evaluate
from tautomer.patterns.operation import definition_of
from tautomer.patterns.rowwise.program import Layout
from tautomer.patterns.rowwise.vocabulary import POINTWISE, REDUCTIONS, small_power

MOST_AXES = 64  # of a row
_OF_ELEMENTS = ("full", "row", "block", "segment")
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class Step:
    """One operator of a body: what it does to values of a domain, which it reads, and the one it gives."""

    function: Callable[[Any, Sequence[Any]], Any]
    reads: tuple[ir.Value, ...]
    gives: ir.Value


class BodyReader:
    """Reads the operators of a body, in order.

    Args:
        layout: where the rows lie.
        version: the opset.
        where: the function, for errors.
        values: what the body computes from, x first.
        kinds: of all of them but x.

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

    def step(self, node: ir.Node) -> Step | None:
        """What a node does; None for a constant.

        Raises:
            InputError: it is not of the vocabulary, or stands in another form.
        """
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
    ) -> Step:
        self._known[node.outputs[0]] = None
        if node.op_type not in REDUCTIONS and any(value in self.elements for value in reads):
            self.elements[node.outputs[0]] = None
        if any(value in self.of_all_rows for value in reads):
            self.of_all_rows[node.outputs[0]] = None
        return Step(function, reads, node.outputs[0])

    def _normalized(self, node: ir.Node) -> Step | None:
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
        if tensor is None or tensor.size > MOST_AXES:
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
