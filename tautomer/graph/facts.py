"""Concrete facts of every value of a model under a choice of sizes: shapes, types and small contents.

Shape arithmetic that exporters write out (Shape, Gather, Concat, Reshape, ...) is evaluated, not matched.
Nothing here raises on a strange graph: what cannot be told is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tautomer.graph.call import Call, call_of
from tautomer.graph.computed_content import computed
from tautomer.graph.fact import EMPTY, Fact, Facts, Shape
from tautomer.graph.inference_of_onnx import infer
from tautomer.graph.node_order import in_order
from tautomer.graph.shape_rules import shape_rule_of, types_of
from tautomer.graph.stored_content import constant_node, stored
from tautomer.graph.symbols import bind_symbols, size_of, unnamed

__all__ = ["EMPTY", "Fact", "Facts", "bind_symbols", "extend", "propagate"]

_OURS = "tautomer"  # a function of this domain is the operator of its name, with the body written out
_DEEPEST = 32  # sub-graphs in sub-graphs beyond this are left alone
_RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}


def propagate(model: ir.Model, sizes: Mapping[str, int]) -> Facts:
    """Computes the facts of all values.

    Args:
        model: any model; its nodes need not be sorted.
        sizes: a number for each symbolic size, see `bind_symbols`.
    """
    walk = _Walk(model, sizes)
    walk.main(model.graph)
    return Facts(walk.facts)


def extend(facts: Facts, model: ir.Model, nodes: Sequence[ir.Node]) -> None:
    """Adds the facts of new nodes, in their order, and of new constants that they read."""
    walk = _Walk(model, {})
    for node in nodes:
        for value in node.inputs:
            if value is not None and value not in facts and value.const_value is not None:
                facts.set(value, stored(value.const_value))
        walk.facts = {value: facts.get(value) for value in node.inputs if value is not None}
        found = walk.node(node, 0)
        for i, output in enumerate(node.outputs):
            facts.set(output, found[i] if i < len(found) else EMPTY)


class _Walk:
    """One pass over a model."""

    def __init__(self, model: ir.Model, sizes: Mapping[str, int]) -> None:
        self.facts: dict[ir.Value, Fact] = {}
        self.sizes = sizes
        self.named: dict[str, int | None] = {}
        self.functions = {(function.domain, function.name) for function in model.functions.values()}
        self.versions = {**model.opset_imports}
        self.versions.setdefault("", self.versions.get("ai.onnx", 0))

    def main(self, graph: ir.Graph) -> None:
        """The main graph: its inputs are bound."""
        for value in graph.inputs:
            shape, static = self.declared(value, bind_unnamed=True)
            self.facts[value] = Fact(shape, value.dtype, static=static)
        self.graph(graph, 0)

    def graph(self, graph: ir.Graph, depth: int) -> None:
        """The initializers and nodes of a graph whose inputs are known."""
        inputs = set(graph.inputs)
        for value in graph.initializers.values():
            if value not in inputs:
                self.facts[value] = stored(value.const_value) if value.const_value is not None else EMPTY
        for node in in_order(graph):
            try:
                found = self.node(node, depth)
            except Exception:  # a damaged node must not hide what is known of the others
                found = []
            for i, output in enumerate(node.outputs):
                self.facts[output] = self.merged(output, found[i] if i < len(found) else EMPTY)

    def declared(self, value: ir.Value, bind_unnamed: bool = False) -> tuple[Shape | None, bool]:
        """The declared shape with numbers for symbols, and whether it had none."""
        if value.shape is None:
            return None, False
        sizes: list[int] = []
        static = True
        for axis, size in enumerate(value.shape):
            if isinstance(size, int) and size >= 0:
                sizes.append(size)
                continue
            static = False
            symbol = None if isinstance(size, int) else size.value
            if symbol is None and bind_unnamed:
                symbol = unnamed(value, axis)
            number = None if symbol is None else self.number(symbol)
            if number is None or number < 0:
                return None, False
            sizes.append(number)
        return tuple(sizes), static

    def number(self, symbol: str) -> int | None:
        """The number of a symbol or expression, looked up once."""
        if symbol not in self.named:
            self.named[symbol] = size_of(symbol, self.sizes)
        return self.named[symbol]

    def merged(self, value: ir.Value, fact: Fact) -> Fact:
        """What was computed, completed with what is declared."""
        if fact.shape is not None and fact.dtype is not None:
            return fact
        shape, static = (fact.shape, fact.static) if fact.shape is not None else self.declared(value)
        dtype = fact.dtype if fact.dtype is not None else value.dtype
        return Fact(shape, dtype, fact.array, fact.constant, static)

    def node(self, node: ir.Node, depth: int) -> Sequence[Fact]:
        """The facts of a node's outputs, as far as they can be computed."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        if node.op_type == "Constant" and domain == "":
            return [constant_node(node)]
        ours = domain == _OURS and shape_rule_of(domain, node.op_type) is not None
        if (domain, node.op_type) in self.functions and not ours:
            return []
        bodies = [graph for a in node.attributes.values() for graph in _graphs(a)]
        if bodies:
            return self.control(node, bodies, depth)
        inputs = [None if value is None else self.facts.get(value, EMPTY) for value in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        call = call_of(node, self.versions.get(domain, 0))
        shapes, types = self.signature(node, call, inputs)
        present = [fact for fact in inputs if fact is not None]
        constant = all(fact.constant for fact in present) and _repeatable(call, len(inputs))
        static = all(fact.static and (fact.constant or fact.array is None) for fact in present)
        if call.op_type in ("Shape", "Size") and domain == "":
            constant, static = constant or static, True  # how many axes there are is never a symbol
        arrays = computed(call, inputs, shapes)
        facts = []
        for i in range(len(node.outputs)):
            shape = shapes[i] if i < len(shapes) else None
            array = arrays[i] if i < len(arrays) else None
            facts.append(
                Fact(
                    array.shape if array is not None else shape,
                    types[i] if i < len(types) else None,
                    array,
                    constant,
                    static and (shape is not None or array is not None),
                )
            )
        return facts

    def signature(
        self, node: ir.Node, call: Call, inputs: list[Fact | None]
    ) -> tuple[Sequence[Shape | None], Sequence[ir.DataType | None]]:
        """Shapes and types of the outputs: by our rules, or for rare operators by the onnx package."""
        rule = shape_rule_of(call.domain, call.op_type)
        if rule is None:
            return infer(node, call, inputs)
        try:
            shapes = rule(call, inputs)
            if any(shape is not None and any(size < 0 for size in shape) for shape in shapes):
                shapes = []
        except Exception:  # the type may still be known
            shapes = []
        return shapes, types_of(call, inputs)

    def control(self, node: ir.Node, bodies: list[ir.Graph], depth: int) -> Sequence[Fact]:
        """Goes through the sub-graphs of a node; an If has what its branches agree on."""
        if depth >= _DEEPEST:
            return []
        for body in bodies:
            for value in body.inputs:
                shape, static = self.declared(value)
                self.facts[value] = Fact(shape, value.dtype, static=static)
            self.graph(body, depth + 1)
        if node.op_type != "If":
            return []
        condition = self.facts.get(node.inputs[0], EMPTY).array if node.inputs and node.inputs[0] else None
        named = {
            name: body for name in ("then_branch", "else_branch") for body in _graphs(node.attributes[name])
        }
        if condition is not None:
            bodies = [named["then_branch" if bool(condition.item()) else "else_branch"]]
        return [
            _agreed([self.facts.get(body.outputs[i], EMPTY) for body in bodies])
            for i in range(len(node.outputs))
        ]


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()


def _repeatable(call: Call, inputs: int) -> bool:
    """True when equal inputs give equal outputs, as far as we know."""
    if call.domain not in ("", "com.microsoft") or call.op_type in _RANDOM:
        return False
    return call.op_type != "Dropout" or inputs < 3


def _agreed(facts: list[Fact]) -> Fact:
    """What all branches have in common."""
    first = facts[0]
    if len(facts) == 1:
        return Fact(first.shape, first.dtype, first.array, static=first.static)
    return Fact(
        first.shape if all(fact.shape == first.shape for fact in facts) else None,
        first.dtype if all(fact.dtype == first.dtype for fact in facts) else None,
        static=all(fact.static for fact in facts),
    )
