"""One interpreter of the vocabulary: a graph evaluated in whatever domain of numbers it is given.

Float tensors are values of the domain; integer and boolean tensors (shapes, positions, masks) are concrete
arrays. A weight is lifted where it is read and dropped with the node that reads it, of a table only the rows
that are gathered, and a value is dropped after its last reader, so that a model runs layer by layer in the
memory of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError
from tautomer.graph.call import Call, call_of
from tautomer.graph.mapped import let_go
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.patterns.meaning import compute
from tautomer.verify.attention_meaning import meaning_here
from tautomer.verify.control_flow import bodies_of, decided, is_constant, last_reads, loop, needed, scan

__all__ = ["Alter", "Constants", "Observe", "Rows", "Unsupported", "run", "run_function", "run_loop"]

Constants = Callable[[ir.Value], Any]
"""Gives the value that stands for a stored constant, concrete or of the domain; None keeps the stored one."""
Rows = Callable[[ir.Value, np.ndarray[Any, Any]], Any]
"""Gives what stands for some rows of an initializer, concrete or of the domain; None to do without.

Takes the initializer, at least two floats, and int64 positions [k] along its first axis, none negative; gives
[k, ...] rows.
"""
Observe = Callable[[ir.Value, Any], None]
Alter = Callable[[ir.Value, Any], Any]
"""Takes a value and what was computed for it; gives what takes its place, of the same kind."""
_MISFITS = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
)  # of numpy, on a bad shape or attribute


def run(
    model: ir.Model,
    m: Mathematics,
    inputs: Mapping[str, Any],
    *,
    constants: Constants | None = None,
    rows: Rows | None = None,
    outputs: Sequence[str] | None = None,
    observe: Observe | None = None,
    alter: Alter | None = None,
) -> dict[str, Any]:
    """Evaluates a model.

    Args:
        model: the model; its functions are evaluated by their bodies.
        m: the domain of its float tensors.
        inputs: arrays, or values of the domain, by the name of an input.
        constants: asked for every initializer, and every Constant node, before its content is read.
        rows: asked before `constants` where only some rows of an initializer of floats are read.
        outputs: names of values of the main graph; its outputs when left out. Only what they need is run.
        observe: sees every value that a node of the main graph, or of a branch or loop in it, gives.
        alter: may replace every given input and every value that a node of the main graph gives, before
            anything reads or observes it; not what is inside branches, loops and functions, nor constants.

    Returns:
        The outputs by name: values of the domain, or concrete integer and boolean arrays.

    Raises:
        Unsupported: an operator has no meaning, or none in this domain; it says which node.
        InputError: an input is missing or has no place, or an operator does not take what reaches it.
    """
    wanted = _wanted(model.graph, outputs)
    names = {str(value.name): value for value in model.graph.inputs}
    unknown = sorted(set(inputs) - set(names))
    if unknown:
        raise InputError(
            "the model has no such input", where=f"'{unknown[0]}'", remedy=f"its inputs are {sorted(names)}"
        )
    versions = dict(model.opset_imports)
    versions.setdefault("", versions.get("ai.onnx", 0))
    values = {names[name]: x if m.is_value(x) else lift(m, np.asarray(x)) for name, x in inputs.items()}
    if alter is not None:
        values = {value: alter(value, x) for value, x in values.items()}
    walk = _Walk(model, m, constants, rows, alter)
    scope = _Scope(versions, {}, observe, values)
    walk.graph(model.graph, scope, wanted)
    return {str(value.name): walk.read(value, scope) for value in wanted}


def run_function(
    model: ir.Model, m: Mathematics, function: ir.Function, call: Call, inputs: Sequence[Any]
) -> Sequence[Any]:
    """Evaluates the body of one of a model's functions for a call of it; raises as `run` does."""
    return _Walk(model, m, None, None, None).function(function, call, list(inputs))


def run_loop(
    model: ir.Model, m: Mathematics, node: ir.Node, call: Call, around: Mapping[ir.Value, Any]
) -> Sequence[Any]:
    """Evaluates a node of the main graph that has bodies; raises as `run` does.

    Args:
        model: the model.
        m: the domain.
        node: the node.
        call: its call.
        around: what it and its bodies read, by value.
    """
    versions = dict(model.opset_imports)
    versions.setdefault("", versions.get("ai.onnx", 0))
    walk = _Walk(model, m, None, None, None)
    scope = _Scope(versions, {}, None, dict(around))
    return walk.control(node, call, [walk.read(value, scope) for value in node.inputs], scope)


def _wanted(graph: ir.Graph, names: Sequence[str] | None) -> list[ir.Value]:
    if names is None:
        return list(graph.outputs)
    known = {str(value.name): value for node in graph for value in node.outputs}
    known.update({str(value.name): value for value in [*graph.inputs, *graph.outputs]})
    for name in names:
        if name not in known:
            raise InputError("the model computes no such value", where=f"'{name}'")
    return [known[name] for name in names]


@dataclass
class _Scope:
    """What the nodes of a graph see: opsets, the attributes of the call, values."""

    versions: Mapping[str, int]
    bound: Mapping[str, Any]
    observe: Observe | None
    values: dict[ir.Value, Any]


class _Walk:
    """One evaluation of a model."""

    def __init__(
        self,
        model: ir.Model,
        m: Mathematics,
        constants: Constants | None,
        rows: Rows | None,
        alter: Alter | None,
    ) -> None:
        self.main, self.functions, self.m = model.graph, model.functions, m
        self.constants, self.rows, self.alter = constants, rows, alter

    def graph(self, graph: ir.Graph, scope: _Scope, wanted: Sequence[ir.Value]) -> None:
        """Evaluates the nodes that the wanted values need; leaves those values in the scope."""
        nodes = needed(graph, wanted)
        dead = last_reads(graph, nodes, wanted)
        alter = self.alter if graph is self.main else None
        for position, node in enumerate(nodes):
            results = self.node(node, scope)
            for value, computed in zip(node.outputs, results, strict=False):
                result = computed if alter is None else alter(value, computed)
                scope.values[value] = result
                if scope.observe is not None:
                    scope.observe(value, result)
            for value in dead[position]:
                scope.values.pop(value, None)

    def read(self, value: ir.Value | None, scope: _Scope) -> Any:
        """The value; constants are made on the spot and not kept."""
        if value is None:
            return None
        if value in scope.values:
            return scope.values[value]
        producer = value.producer()
        if producer is not None and is_constant(producer):
            replaced = None if self.constants is None else self.constants(value)
            if replaced is not None:
                return self.lifted(replaced)
            return self.leaf(producer, self.call(producer, scope), [])[0]
        if value.const_value is None:
            raise InputError("it has no value", where=f"input '{value.name}'", remedy="give it one")
        return self.stored(value, value.const_value)

    def stored(self, value: ir.Value, tensor: ir.TensorProtocol) -> Any:
        """An initializer, or what stands for it."""
        replaced = None if self.constants is None else self.constants(value)
        if replaced is not None:
            return self.lifted(replaced)
        array = tensor.numpy()
        value = self.lifted(array)
        let_go(array)
        return value

    def lifted(self, x: Any) -> Any:
        """A value of the domain as it is, anything else lifted."""
        return x if self.m.is_value(x) else lift(self.m, np.asarray(x))

    def node(self, node: ir.Node, scope: _Scope) -> Sequence[Any]:
        """The outputs of a node."""
        call = self.call(node, scope)
        function = self.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self.function(function, call, [self.read(value, scope) for value in node.inputs])
        if (table := _table(node, call, scope)) is not None:
            return self.leaf(node, call, self.gathered(*table, self.read(node.inputs[1], scope)))
        inputs = [self.read(value, scope) for value in node.inputs]
        if any(True for _ in bodies_of(node)):
            return self.control(node, call, inputs, scope)
        return self.leaf(node, call, inputs)

    def gathered(self, table: ir.Value, tensor: ir.TensorProtocol, indices: Any) -> list[Any]:
        """The inputs of a Gather from a stored table: of the table, only the rows that it picks."""
        length = tensor.shape.numpy()[0]
        where = np.asarray(None if self.m.is_value(indices) else indices)
        integers = where.dtype.kind in "iu" and where.size > 0
        if not integers or where.min() < -length or where.max() >= length:
            return [self.stored(table, tensor), indices]  # if something is wrong, the operator says what
        distinct, places = np.unique(where.astype(np.int64) % length, return_inverse=True)
        if len(distinct) * tensor.size == length:
            # a lone float is read as a number of a formula, and an element of a table is none
            distinct = np.repeat(distinct, 2)
        picked = None if self.rows is None else self.rows(table, distinct)
        if picked is None and self.constants is not None:
            whole = self.constants(table)
            if whole is not None:
                return [self.lifted(whole), indices]
        if picked is None:
            # touches no other rows of a mapped file; np.take would copy all of it where it is not aligned
            picked = tensor.numpy()[distinct]
        return [self.lifted(picked), places.reshape(where.shape)]

    def leaf(self, node: ir.Node, call: Call, inputs: list[Any]) -> Sequence[Any]:
        """The outputs of a node that has no body."""
        try:
            special = meaning_here(call)
            if special is not None:
                with np.errstate(all="ignore"):
                    return special(self.m, call, inputs)
            return compute(self.m, call, inputs)
        except Unsupported as error:
            raise _at(node, error) from error
        except _MISFITS as error:
            raise _misfit(node, error) from error

    def call(self, node: ir.Node, scope: _Scope) -> Call:
        """The node with the attributes of the function call put in, without trailing outputs nobody reads."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        call = call_of(node, scope.versions.get(domain, 0))
        references = {
            name: scope.bound[str(attribute.ref_attr_name)]
            for name, attribute in node.attributes.items()
            if attribute.is_ref() and attribute.ref_attr_name in scope.bound
        }
        outputs = len(node.outputs)
        while outputs > 1 and node.op_type != "Split" and not _is_read(node.outputs[outputs - 1]):
            outputs -= 1
        if not references and outputs == call.outputs:
            return call
        return replace(call, attributes={**call.attributes, **references}, outputs=outputs)

    def function(self, function: ir.Function, call: Call, inputs: list[Any]) -> Sequence[Any]:
        """Evaluates the body of a function with the call's inputs and attributes."""
        bound = {
            name: list(attribute.value) if isinstance(attribute.value, tuple) else attribute.value
            for name, attribute in function.attributes.items()
            if attribute.value is not None
        }
        given = [*inputs, *[None] * (len(function.inputs) - len(inputs))]
        values = dict(zip(function.inputs, given, strict=True))
        scope = _Scope(function.opset_imports, {**bound, **call.attributes}, None, values)
        self.graph(function.graph, scope, function.outputs)
        return [self.read(value, scope) for value in function.outputs]

    def control(self, node: ir.Node, call: Call, inputs: list[Any], scope: _Scope) -> Sequence[Any]:
        """Evaluates a node that has bodies."""
        bodies = dict(bodies_of(node))
        try:
            if node.op_type == "If":
                taken = "then_branch" if decided(self.m, "If", inputs[0]) else "else_branch"
                return self.body(bodies[taken], [], scope)
            if node.op_type == "Loop":
                return loop(
                    self.m, inputs, lambda args: self.body(bodies["body"], args, scope), len(node.outputs)
                )
            if node.op_type == "Scan":
                whole = replace(call, outputs=len(node.outputs))
                return scan(self.m, whole, inputs, lambda args: self.body(bodies["body"], args, scope))
            raise Unsupported(node.op_type, "an operator with a graph inside")
        except Unsupported as error:
            raise _at(node, error) from error
        except _MISFITS as error:
            raise _misfit(node, error) from error

    def body(self, graph: ir.Graph, args: Sequence[Any], scope: _Scope) -> list[Any]:
        """Evaluates a graph inside a graph; it sees the values around it."""
        scope.values.update(zip(graph.inputs, args, strict=True))
        self.graph(graph, scope, graph.outputs)
        results = [self.read(value, scope) for value in graph.outputs]
        for value in graph.outputs:
            producer = value.producer()
            if producer is not None and producer.graph is graph:
                scope.values.pop(value, None)
        return results


def _table(node: ir.Node, call: Call, scope: _Scope) -> tuple[ir.Value, ir.TensorProtocol] | None:
    """The initializer of several floats that a Gather picks from along the first axis, and its content."""
    if (call.domain, call.op_type) != ("", "Gather") or len(node.inputs) != 2:
        return None
    table = node.inputs[0]
    if table is None or table in scope.values or table.producer() is not None:
        return None
    tensor = table.const_value
    if tensor is None or tensor.size < 2 or not tensor.dtype.is_floating_point():
        return None
    return (table, tensor) if call.get("axis", 0) in (0, -len(tensor.shape)) else None


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _label(node: ir.Node) -> str:
    return str(node.name or next((value.name for value in node.outputs if value.name), node.op_type))


def _misfit(node: ir.Node, error: Exception) -> InputError:
    return InputError(
        f"{node.op_type} does not take what reaches it ({error})",
        where=f"node '{_label(node)}'",
        remedy="give inputs of other sizes",
    )


def _at(node: ir.Node, error: Unsupported) -> Unsupported:
    """The refusal with the node at fault, unless a node inside has been named already."""
    if error.reason.startswith("node '"):
        return error
    return Unsupported(
        error.op, f"node '{_label(node)}': {error.reason}" if error.reason else f"node '{_label(node)}'"
    )
