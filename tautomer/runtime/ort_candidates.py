"""Which operators of the domain `tautomer` in a model can be run by kernels.

onnxruntime runs a registered kernel for every node of an operator, and refuses the model when one of the
nodes does not fit. So it is all nodes of an operator or none: those of the others run their function bodies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from tautomer.codegen.ort_abi import ELEMENT_TYPES
from tautomer.graph.facts import Fact, Facts, bind_symbols, extend, propagate
from tautomer.graph.naming import label
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.operation import ROW_OPERANDS, Definition, definition_of, definitions


@dataclass(frozen=True)
class Wanted:
    """A kernel that some nodes can use.

    Attributes:
        definition: what they compute.
        element_type: the ONNX name of the type that they compute it on.
    """

    definition: Definition
    element_type: str


@dataclass
class Candidates:
    """What a model has for kernels.

    Attributes:
        nodes: how many nodes of the domain there are.
        wanted: operator -> the kernels that its nodes need, all of them.
        declined: operator -> why its nodes run their function body.
    """

    nodes: int = 0
    wanted: dict[str, list[Wanted]] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)


def kernels_for(model: ir.Model) -> Candidates:
    """The operators of the domain in a model, each with the kernels it needs or the reason why not."""
    places = list(_nodes(model))
    found = Candidates(len(places))
    facts = _facts(model) if places else Facts({})
    for node, in_function in places:
        if node.op_type in found.declined:
            continue
        fit: Wanted | str = "it stands in a function, where types are not known"
        if not in_function:
            fit = _fit(node, model, facts)
        if isinstance(fit, str):
            found.declined[node.op_type] = f"'{label(node)}': {fit}"
            found.wanted.pop(node.op_type, None)
        elif fit not in (wanted := found.wanted.setdefault(node.op_type, [])):
            wanted.append(fit)
    return found


def _nodes(model: ir.Model) -> Iterator[tuple[ir.Node, bool]]:
    """The nodes of the domain, and whether they stand in a function."""
    for graph, in_function in ((model.graph, False), *((f.graph, True) for f in model.functions.values())):
        for node in ir.traversal.RecursiveGraphIterator(graph):
            if node.domain == DOMAIN:
                yield node, in_function


def _facts(model: ir.Model) -> Facts:
    """What is known of the values, also behind our nodes where the file does not say it."""
    facts = propagate(model, bind_symbols(model))
    like_x = {(one.op, len(one.results)) for one in definitions() if one.rows != "folded"}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if all(facts.get(value).dtype is not None for value in node.outputs):
            continue
        if node.domain == DOMAIN and node.inputs and (node.op_type, len(node.outputs)) in like_x:
            x = facts.get(node.inputs[0])
            for value in node.outputs:
                facts.set(value, Fact(x.shape, x.dtype))
        else:
            extend(facts, model, [node])
    return facts


def _fit(node: ir.Node, model: ir.Model, facts: Facts) -> Wanted | str:
    """The kernel that a node can use, or why there is none."""
    texts = {
        name: attribute.as_string()
        for name, attribute in node.attributes.items()
        if attribute.type == ir.AttributeType.STRING and not attribute.is_ref()
    }
    definition = definition_of(node.op_type, texts)
    if definition is None or definition.rows == "folded":
        return "no kernel is written for it"
    inputs = [value for value in node.inputs if value is not None]
    if len(inputs) != len(node.inputs) or len(inputs) != 1 + len(definition.operands):
        return "it does not have the inputs of its definition"
    if len(node.outputs) != len(definition.results):
        return "it does not have the outputs of its definition"
    types = {facts.get(value).dtype or value.dtype for value in inputs}
    dtype = types.pop()
    if types or dtype is None or dtype.name not in ELEMENT_TYPES:
        return "its element type is not known, or not one that kernels are written for"
    return (
        _shapes_differ(node, definition, facts)
        or _numbers_differ(node, definition, model)
        or Wanted(definition, dtype.name)
    )


def _shapes_differ(node: ir.Node, definition: Definition, facts: Facts) -> str:
    """Why the shapes are not those that a kernel is written for, as far as they are known."""
    x = facts.get(node.inputs[0])
    axis = node.attributes.get_int("axis", -1)
    rank = None if x.shape is None else len(x.shape)
    if definition.rows and axis not in (-1, None if rank is None else rank - 1):
        return f"its axis is {axis}, and kernels work on the last"
    if x.shape is None:
        return ""
    if definition.rows and not x.shape:
        return "a number has no rows"
    for name, value in zip(definition.operands, node.inputs[1:], strict=True):
        fact = facts.get(value)
        row = name in ROW_OPERANDS
        if fact.shape is not None and (fact.size not in (1, x.shape[-1]) if row else fact.shape != x.shape):
            return f"{name} does not have the shape of {'a row' if row else 'x'}"
    return ""


def _numbers_differ(node: ir.Node, definition: Definition, model: ir.Model) -> str:
    """Why a kernel would not take the node's numbers as its function body does."""
    function = model.functions.get((node.domain, node.op_type, node.overload))
    for name, default in definition.parameters.items():
        attribute = node.attributes.get(name)
        own = attribute is not None
        if attribute is None and function is not None:
            attribute = function.attributes.get(name)
        if attribute is None or (not own and attribute.value is None):
            continue
        if attribute.is_ref() or attribute.type != ir.AttributeType.FLOAT:
            return f"its attribute {name} is not a float"
        if not own and np.float32(attribute.as_float()) != np.float32(default):
            return f"its function has another default of {name}"
    return ""
