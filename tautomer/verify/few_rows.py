"""How few rows show what a computation does to all of them.

    f(x)[i, :] = g(x[i, :])

Where both sides of a rewrite have this form along an axis, each with one g for all i, they are the same
function if g is; so a few indices are as much evidence as a thousand. So are a few terms of a sum over an
axis, sum_i g(x[i, :]), on both sides. Axes that meet in an operator are one axis. An axis is kept whole where
anything else reads along it, numbers it, stores something along it, or is not known to do none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import onnx_ir as ir
from networkx.utils import UnionFind

from tautomer.graph.call import Call, call_of
from tautomer.graph.fact import EMPTY, Fact, Facts, Shape
from tautomer.graph.facts import extend
from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.shape_rules import Unknown, known
from tautomer.graph.step_axes import NotLocal, operand_axes
from tautomer.patterns.attention_form import AttentionForm, Mask
from tautomer.patterns.attention_operator import LAYOUTS, AttentionOperator, operator_named
from tautomer.patterns.meaning import named, row_axes
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.shapes_of_ours import fact_of_attention

_SIZES = (3, 2, 5, 7)  # few, and those of neighbours differ, so that axes that change places are seen
_LAST = 16  # of the last axis of an input, where the classes of inputs put what is special

_Axis = tuple[ir.Value, int]


def few_rows(
    model: ir.Model, facts: Facts, values: Sequence[ir.Value], leaves: Mapping[ir.Value, ir.Value]
) -> dict[ir.Value, Shape]:
    """Shapes that are enough to compare what values are computed from.

    Args:
        model: the model that the values are in.
        facts: of its original values.
        values: what is compared.
        leaves: what they are computed from -> the original value of that shape, which is known.

    Returns:
        The shape of each leaf, and of each value on the way that is known to have one; no longer than theirs.
    """
    found = _Axes(model, facts, leaves)
    for node in between(values, leaves, facts):
        found.visit(node)
    return found.shapes()


def between(
    values: Sequence[ir.Value], leaves: Mapping[ir.Value, ir.Value], facts: Facts
) -> Iterator[ir.Node]:
    """The nodes between leaves and values, producers first; what is known ahead has none."""
    done: set[ir.Node] = set()
    stack = [(value, False) for value in reversed(values)]
    while stack:
        value, ready = stack.pop()
        node = value.producer()
        if node is None or node in done or value in leaves or facts.get(value).array is not None:
            continue
        if ready:
            done.add(node)
            yield node
        else:
            stack.append((value, True))
            stack += [(operand, False) for operand in node.inputs if operand is not None]


class _Axes:
    """The axes longer than 1 of the values of a neighbourhood: which are one, and which are kept whole."""

    def __init__(self, model: ir.Model, facts: Facts, leaves: Mapping[ir.Value, ir.Value]) -> None:
        self._model, self._original = model, facts
        self._leaves = leaves
        self._facts = Facts({leaf: facts.get(origin) for leaf, origin in leaves.items()})
        self._joined, self._whole = UnionFind(), set[_Axis]()

    def visit(self, node: ir.Node) -> None:
        """Says of a node's operands and results which axes are one, and which it needs whole."""
        for operand in node.inputs:
            if operand is not None and operand not in self._facts:
                self._facts.set(operand, self._stored(operand))
                self._whole.update(self._long(operand))
        call = call_of(node, self._model.opset_imports.get(node.domain, 0))
        x = [None if operand is None else self._facts.get(operand) for operand in node.inputs]
        self._extend(node, call)
        met: set[_Axis] = set()
        for output in node.outputs:
            for result in self._long(output):
                operands = _operands(call, x, self._facts.get(output).shape or (), result[1])
                for operand, axis in zip(node.inputs, operands or (), strict=False):
                    if operand is not None and axis is not None:
                        self._joined.union(result, (operand, axis))
                        met.add((operand, axis))
                if operands is None:
                    self._whole.add(result)
        for places in _summed(call, x):
            axes = [(node.inputs[operand], axis) for operand, axis in places]
            summed = [(value, axis) for value, axis in axes if value is not None]
            self._joined.union(*summed)
            met.update(summed)
        unknown = any(self._facts.get(output).shape is None for output in node.outputs)
        for operand in node.inputs:
            if operand is not None:
                self._whole.update(axis for axis in self._long(operand) if unknown or axis not in met)

    def shapes(self) -> dict[ir.Value, Shape]:
        """The shapes, with few indices along every axis that nothing needs whole."""
        whole = {self._joined[axis] for axis in self._whole}
        sizes: dict[_Axis, int] = {}
        few = cycle(_SIZES)
        for leaf in self._leaves:
            full = self._facts.get(leaf).shape or ()
            for value, axis in self._long(leaf):
                root = self._joined[value, axis]
                if root not in whole and root not in sizes:
                    wanted = _LAST if axis == len(full) - 1 else next(few)
                    sizes[root] = min(full[axis], wanted)
        found = {}
        for value in self._facts:
            shape = self._facts.get(value).shape
            if shape is not None:
                long = {axis: self._joined[value, axis] for _, axis in self._long(value)}
                found[value] = tuple(
                    sizes.get(long[axis], size) if axis in long else size for axis, size in enumerate(shape)
                )
        return found

    def _long(self, value: ir.Value) -> list[_Axis]:
        return [(value, axis) for axis, size in enumerate(self._facts.get(value).shape or ()) if size > 1]

    def _stored(self, value: ir.Value) -> Fact:
        """What is known of a value that does not vary with the leaves."""
        if value in self._original:
            return self._original.get(value)
        tensor = value.const_value
        return EMPTY if tensor is None else Fact(tuple(tensor.shape.numpy()), tensor.dtype)

    def _extend(self, node: ir.Node, call: Call) -> None:
        """The facts of a node's results; a new one's are computed."""
        if all(output in self._original for output in node.outputs):
            for output in node.outputs:
                self._facts.set(output, self._original.get(output))
            return
        if call.domain == DOMAIN and (attention := operator_named(call.op_type)) is not None:
            self._facts.set(node.outputs[0], fact_of_attention(attention, node, self._facts))
            return
        extend(self._facts, self._model, [node])
        definition = named(call)
        if definition is not None and definition[0].rows != "folded" and node.inputs:
            for output in node.outputs:
                if self._facts.get(output).shape is None:
                    self._facts.set(output, self._facts.get(node.inputs[0]))


def _summed(call: Call, x: Sequence[Fact | None]) -> list[list[tuple[int, int]]]:
    """The axes that an operator sums over: of each, the operands that have it, and where.

    Not those of means: one side may take them as sums, and divide by the number of all.
    """
    ranks = [0 if fact is None or fact.shape is None else len(fact.shape) for fact in x]
    if call.domain not in ("", "ai.onnx") or not ranks or not ranks[0]:
        return []
    if call.op_type == "MatMul" and min(ranks) >= 2:
        return [[(0, ranks[0] - 1), (1, ranks[1] - 2)]]
    if call.op_type == "ReduceSum" and len(x) > 1 and x[1] is not None and x[1].array is not None:
        return [[(0, int(axis) % ranks[0])] for axis in x[1].array.reshape(-1)]
    return []


def _operands_of_attention(
    operator: AttentionOperator, x: Sequence[Fact | None], axis: int
) -> Sequence[int | None] | None:
    """The same of attention: every sequence is on its own, and every head, if it has its own keys."""
    which = LAYOUTS[operator.layouts[3]][axis]
    if which > 1 or operator.inputs[3:] not in ((), ("mask",)):
        return None
    places = [LAYOUTS[letter].index(which) for letter in operator.layouts[:3]]
    sizes = {known(x, i)[place] for i, place in enumerate(places)}
    mask = known(x, 3) if len(x) > 3 else ()
    place = which + len(mask) - 4
    return None if len(sizes) > 1 else [*places, *([place if place >= 0 else None] if mask else [])]


def _operands(call: Call, x: Sequence[Fact | None], out: Shape, axis: int) -> Sequence[int | None] | None:
    """The axis of each operand that goes with an axis of the result; None where it depends on all of them."""
    found = named(call)
    try:
        if call.domain == DOMAIN and (attention := operator_named(call.op_type)) is not None:
            return _operands_of_attention(attention, x, axis)
        if call.domain == "" and call.op_type == "Attention" and len(out) == 4:
            mask: Mask = "additive" if len(x) > 3 else ""
            return _operands_of_attention(AttentionOperator(AttentionForm(mask=mask)), x, axis)
        if found is None or found[0].rows == "folded":
            return operand_axes(call, x, out, axis)
        definition, attributes = found
        if definition.rows == "groups" or x[0] is None or x[0].shape != out:
            return None
        if axis in row_axes(definition, attributes, call.version, len(out)):
            return None
        return operand_axes(Call("Sum", version=call.version), x, out, axis)
    except (NotLocal, Unknown, Unsupported):
        return None
