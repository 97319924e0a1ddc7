"""How few rows show what a computation does to all of them.

    f(x)[i, :] = g(x[i, :])

Where both sides of a rewrite have this form along an axis, each with one g for all i, they are the same
function if g is; so a few indices are as much evidence as a thousand. So are a few terms of a sum over an
axis, sum_i g(x[i, :]), on both sides, if two numbers of terms are tried: sum_i (x[i] - s / 16) is 0 for the
sum s of 16 terms only. So it is with the logarithm of a sum of exponentials, and with a number that is picked
out of many, which is a sum, too. Axes that meet in an operator are one axis. An axis is kept whole where
anything else reads along it, numbers it, stores something along it, or is not known to do none of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np
import onnx_ir as ir
from networkx.utils import UnionFind

from tautomer.graph.call import Call, call_of
from tautomer.graph.fact import EMPTY, Fact, Facts, Shape
from tautomer.graph.facts import extend, propagate
from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.shape_rules import Unknown, known
from tautomer.graph.step_axes import NotLocal, operand_axes
from tautomer.patterns.attention.form import AttentionForm, Mask
from tautomer.patterns.attention.operators import LAYOUTS, AttentionOperator, operator_named
from tautomer.patterns.expert_gate import is_gate
from tautomer.patterns.meaning import named, row_axes
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.shapes_of_ours import fact_of_attention
from tautomer.verify.row_loops import RowLoop, read_around, row_loop

_SIZES = (3, 2, 5, 7)  # few, and those of neighbours differ, so that axes that change places are seen
_LAST = 16  # of the last axis of an input, where the classes of inputs put what is special

_AXES = 16  # more than any tensor has
_LARGE = 1 << 18  # elements of a value, beyond which ball arithmetic takes minutes
_ASKING, _STORING = ("Shape", "Size"), ("Expand", "Reshape", "ConstantOfShape", "Resize")

_SUMS = ("ReduceSum", "ReduceLogSumExp")
_LOSSES = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")

_Axis = tuple[ir.Value, int]


def few_rows(
    model: ir.Model,
    facts: Facts,
    values: Sequence[ir.Value],
    leaves: Mapping[ir.Value, ir.Value],
    *,
    more: int = 0,
) -> dict[ir.Value, Shape]:
    """Shapes that are enough to compare what values are computed from.

    Args:
        model: the model that the values are in.
        facts: of its original values.
        values: what is compared.
        leaves: what they are computed from -> the original value of that shape, which is known.
        more: how many more than the fewest.

    Returns:
        The shape of each leaf, and of each value on the way that is known to have one; no longer than theirs.
    """
    found = _Axes(model, facts, leaves)
    for node in between(values, leaves, facts):
        found.visit(node)
    return found.shapes(more)


def few_inputs(
    original: ir.Model, other: ir.Model, sizes: Mapping[str, int], *, more: int = 0
) -> dict[str, Shape] | None:
    """Shapes of inputs that are enough to compare two models, where a value of one of them is large.

    Args:
        original: a model.
        other: a model of the same inputs and outputs.
        sizes: a number for each symbolic size.
        more: how many more than the fewest.

    Returns:
        By name; None where all values are small, or the graphs store shapes or ask for them, or branch, or
            loop over chunks that are not all rows.
    """
    models = original, other
    facts = [propagate(model, sizes) for model in models]
    known_facts = Facts({value: each.get(value) for each in facts for value in each})
    shapes = [known_facts.get(value).shape for value in known_facts]
    inputs = [[x for x in model.graph.inputs if x.name not in model.graph.initializers] for model in models]
    if max((math.prod(shape) for shape in shapes if shape is not None), default=0) <= _LARGE:
        return None
    leaves = {value: value for each in inputs for value in each}
    if any(known_facts.get(value).shape is None for value in leaves):
        return None
    found = _Axes(original, known_facts, leaves)
    for model in models:
        found.visit_all(model)
    for value in inputs[1]:
        found.join(next(x for x in inputs[0] if x.name == value.name), value)
    few = found.shapes(more)

    def kept(value: ir.Value | None) -> bool:
        return value is None or few.get(value) == known_facts.get(value).shape

    def stores(node: ir.Node) -> bool:
        """Whether a size of what is cut is written down there; -1 is what is left, 0 that of the operand."""
        if node.op_type not in _STORING or all(map(kept, node.outputs)):
            return False
        sizes = known_facts.get(node.inputs[-1]).array if node.op_type == "Reshape" else None
        cut, whole = few.get(node.outputs[0]), known_facts.get(node.outputs[0]).shape
        if sizes is None or cut is None or whole is None or len(sizes) != len(cut):
            return True
        return any(a != b and size > 0 for a, b, size in zip(cut, whole, sizes, strict=True))

    for node in (node for model in models for node in model.graph):
        asks = node.op_type in _ASKING and not all(map(kept, node.inputs)) and not _counts_chunks(node)
        branches = any(each.type == ir.AttributeType.GRAPH for each in node.attributes.values())
        loop = row_loop(node)
        if asks or stores(node) or (branches and (loop is None or not loop.covers(known_facts))):
            return None
    inside = (node for model in models for function in model.functions.values() for node in function)
    if any(node.op_type in (*_ASKING, *_STORING) for node in inside):
        return None
    return {str(value.name): few[value] for value in inputs[0]}


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
            stack += [(operand, False) for operand in _operands_of(node)]


def _counts_chunks(node: ir.Node) -> bool:
    """Whether a node only helps to tell how many chunks of rows there are."""
    uses = [use for output in node.outputs for use in output.uses()]
    if any(output.is_graph_output() for output in node.outputs):
        return False
    return all((slot == 0 and row_loop(user) is not None) or _counts_chunks(user) for user, slot in uses)


def _operands_of(node: ir.Node) -> list[ir.Value]:
    """What decides about a node's results: of a loop over chunks of rows not how many chunks there are."""
    given = node.inputs[2:] if row_loop(node) is not None else node.inputs
    return [value for value in (*given, *read_around(node)) if value is not None]


class _Axes:
    """The axes longer than 1 of the values of a neighbourhood: which are one, and which are kept whole."""

    def __init__(self, model: ir.Model, facts: Facts, leaves: Mapping[ir.Value, ir.Value]) -> None:
        self._model, self._original = model, facts
        self._leaves = leaves
        self._facts = Facts({leaf: facts.get(origin) for leaf, origin in leaves.items()})
        self._joined, self._whole = UnionFind(), set[_Axis]()

    def visit(self, node: ir.Node, *, in_loop: bool = False) -> None:
        """Says of a node's operands and results which axes are one, and which it needs whole.

        Args:
            node: operands come before it.
            in_loop: whether it stands in a loop over rows, so that its facts are those of a chunk.
        """
        loop = row_loop(node)
        if loop is not None:
            self._visit_rows(node, loop)
            return
        for operand in node.inputs:
            if operand is not None and operand not in self._facts:
                self._facts.set(operand, self._stored(operand))
                self._whole.update(self._long(operand))
        call = call_of(node, self._model.opset_imports.get(node.domain, 0))
        x = [None if operand is None else self._facts.get(operand) for operand in node.inputs]
        self._extend(node, call, in_loop)
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

    def _visit_rows(self, node: ir.Node, loop: RowLoop) -> None:
        """The same of a loop over chunks of rows, whose body is read as if it worked on all rows."""
        for chunk, x in loop.chunks.items():
            if x not in self._facts:
                self._facts.set(x, self._stored(x))
            self._same(chunk, x)
        for inner in loop.nodes:
            self.visit(inner, in_loop=True)
        for output, rows in zip(node.outputs, loop.results, strict=True):
            self._same(output, rows)

    def _same(self, value: ir.Value, other: ir.Value) -> None:
        """Says that a value has the shape and the axes of another."""
        self._facts.set(value, replace(self._facts.get(other), array=None))
        for axis in range(len(self._facts.get(other).shape or ())):
            self._joined.union((value, axis), (other, axis))

    def visit_all(self, model: ir.Model) -> None:
        """The same of all that the outputs of a model need."""
        self._model = model
        for node in between(list(model.graph.outputs), self._leaves, self._original):
            self.visit(node)

    def join(self, one: ir.Value, other: ir.Value) -> None:
        """Says that two leaves are one input."""
        for axis in range(len(self._facts.get(one).shape or ())):
            self._joined.union((one, axis), (other, axis))

    def shapes(self, more: int) -> dict[ir.Value, Shape]:
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
                    sizes[root] = min(full[axis], wanted + more)
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
        if tensor is None:
            return EMPTY
        read = tensor.dtype.is_integer() and tensor.size <= _AXES  # such as the axes of a reduction
        array = np.asarray(tensor.numpy()) if read else None
        return Fact(tuple(tensor.shape.numpy()), tensor.dtype, array)

    def _extend(self, node: ir.Node, call: Call, in_loop: bool) -> None:
        """The facts of a node's results; a new one's are computed."""
        known_here = (self._original.get(output).shape is not None for output in node.outputs)
        if not in_loop and all(known_here):
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
    if call.op_type in _SUMS and len(x) > 1 and x[1] is not None and x[1].array is not None:
        return [[(0, int(axis) % ranks[0])] for axis in x[1].array.reshape(-1)]
    if call.op_type == "GatherElements":
        return [[(0, int(call.get("axis", 0)) % ranks[0])]]
    if call.op_type in _LOSSES and ranks[0] == 2 and len(x) == 2:
        return [[(0, 0), (1, 0)], [(0, 1)]]
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
        if call.domain == DOMAIN and is_gate(call.op_type):
            return operand_axes(Call("TopK", version=call.version), x, out, axis)
        if call.domain == "" and call.op_type == "Attention" and len(out) == 4:
            mask: Mask = "additive" if len(x) > 3 else ""
            return _operands_of_attention(AttentionOperator(AttentionForm(mask=mask)), x, axis)
        if found is None or found[0].rows == "folded":
            return operand_axes(call, x, out, axis)
        definition, attributes = found
        if definition.rows == "groups" or x[0] is None or x[0].shape != out:
            return None
        along = axis in row_axes(definition, attributes, call.version, len(out))
        if along and definition.op != "LogSoftmax":  # which subtracts a sum
            return None
        return operand_axes(Call("Sum", version=call.version), x, out, axis)
    except (NotLocal, Unknown, Unsupported):
        return None
