"""Which operators of the domain `tautomer` in a model can be run by kernels.

onnxruntime runs a registered kernel for every node of an operator, and refuses the model when one of the
nodes does not fit. So it is all nodes of an operator or none: those of the others run their function bodies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from tautomer.codegen.onnxruntime.abi import ELEMENT_TYPES
from tautomer.errors import TautomerError
from tautomer.graph.facts import Facts, bind_symbols
from tautomer.graph.naming import label
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.operation import WHOLE_PARAMETERS, Definition, definition_of
from tautomer.patterns.rowwise.program import is_rowwise
from tautomer.patterns.rowwise.reading import definition_in
from tautomer.patterns.shapes_of_ours import facts_of
from tautomer.runtime.onnxruntime import attention as ort_attention
from tautomer.runtime.onnxruntime import gate as ort_gate
from tautomer.runtime.onnxruntime import sparse as ort_sparse

_FAMILIES = (ort_sparse, ort_attention, ort_gate)


@dataclass(frozen=True)
class Wanted:
    """A kernel that some nodes can use.

    Attributes:
        definition: what they compute.
        element_type: the ONNX name of the type that they compute it on.
        axes: how many last axes of x make a row.
    """

    definition: Definition
    element_type: str
    axes: int = 1


class Other(NamedTuple):
    """A kernel that does not work on rows as definitions do: of an operator of one of the families.

    Attributes:
        op: the operator's name.
        element_type: the ONNX name of the type that it computes on.
    """

    op: str
    element_type: str


@dataclass
class Candidates:
    """What a model has for kernels.

    Attributes:
        nodes: how many nodes of the domain there are.
        wanted: operator -> the kernels that its nodes need, all of them.
        others: the kernels of the families, in the order of the nodes.
        declined: operator -> why its nodes run their function body.
    """

    nodes: int = 0
    wanted: dict[str, list[Wanted]] = field(default_factory=dict)
    others: dict[Other, None] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)


def kernels_for(model: ir.Model) -> Candidates:
    """The operators of the domain in a model, each with the kernels it needs or the reason why not."""
    places = list(_nodes(model))
    found = Candidates(len(places))
    facts = facts_of(model, bind_symbols(model)) if places else Facts({})
    read: dict[tuple[str, int], Definition] = {}
    for node, in_function in places:
        if node.op_type in found.declined:
            continue
        fit: Wanted | str = "it stands in a function, where types are not known"
        family = family_of(node.op_type)
        if not in_function and family is not None:
            function = model.functions.get((node.domain, node.op_type, node.overload))
            fit = family.misfit(node, function, facts)
            if not fit:
                dtype = facts.get(node.inputs[0]).dtype or node.inputs[0].dtype  # type: ignore[union-attr]
                found.others[Other(node.op_type, dtype.name)] = None  # type: ignore[union-attr]
                continue
        elif not in_function:
            fit = _fit(node, model, facts, read)
        if isinstance(fit, str):
            found.declined[node.op_type] = f"'{label(node)}': {fit}"
            found.wanted.pop(node.op_type, None)
            found.others = {one: None for one in found.others if one.op != node.op_type}
        elif fit not in (wanted := found.wanted.setdefault(node.op_type, [])):
            if any(fit.axes != other.axes for other in wanted):
                found.declined[node.op_type] = f"'{label(node)}': its nodes have rows of other axes"
                found.wanted.pop(node.op_type)
                continue
            wanted.append(fit)
    return found


def family_of(op: str) -> ModuleType | None:
    """What knows about operators of this kind, where they do not work on rows as definitions do."""
    return next((family for family in _FAMILIES if family.knows(op)), None)


def _nodes(model: ir.Model) -> Iterator[tuple[ir.Node, bool]]:
    """The nodes of the domain, and whether they stand in a function."""
    for graph, in_function in ((model.graph, False), *((f.graph, True) for f in model.functions.values())):
        for node in ir.traversal.RecursiveGraphIterator(graph):
            if node.domain == DOMAIN:
                yield node, in_function


def _definition(
    node: ir.Node, model: ir.Model, read: dict[tuple[str, int], Definition]
) -> Definition | str | None:
    """What a node computes: by its name, or by its function where that is its definition."""
    if is_rowwise(node.op_type):
        function = model.functions.get((node.domain, node.op_type, node.overload))
        if function is None:
            return "its function is not in the file"
        axis = node.attributes.get_int("axis", 0)
        try:
            return read.setdefault((node.op_type, axis), definition_in(function, {"axis": axis}))
        except TautomerError as error:
            return str(error)
    texts = {
        name: attribute.as_string()
        for name, attribute in node.attributes.items()
        if attribute.type == ir.AttributeType.STRING and not attribute.is_ref()
    }
    return definition_of(node.op_type, texts)


def _fit(
    node: ir.Node, model: ir.Model, facts: Facts, read: dict[tuple[str, int], Definition]
) -> Wanted | str:
    """The kernel that a node can use, or why there is none."""
    definition = _definition(node, model, read)
    if isinstance(definition, str):
        return definition
    if definition is None or (definition.rows == "folded" and not is_rowwise(node.op_type)):
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
        or Wanted(
            definition, dtype.name, -node.attributes.get_int("axis", -1) if is_rowwise(node.op_type) else 1
        )
    )


def _shapes_differ(node: ir.Node, definition: Definition, facts: Facts) -> str:
    """Why the shapes are not those that a kernel is written for, as far as they are known."""
    x = facts.get(node.inputs[0])
    rowwise = is_rowwise(node.op_type)
    axis = node.attributes.get_int("axis", -1)
    rank = None if x.shape is None else len(x.shape)
    if definition.rows and not rowwise and axis not in (-1, None if rank is None else rank - 1):
        return f"its axis is {axis}, and kernels work on the last"
    if x.shape is None:
        return ""
    if definition.rows and not x.shape:
        return "a number has no rows"
    for name, value in zip(definition.operands, node.inputs[1:], strict=True):
        fact, kind = facts.get(value), definition.kind(name)
        if fact.shape is None or (rowwise and kind != "full"):
            continue  # the kernel looks at it when it runs
        row = kind == "row"
        if fact.size not in (1, x.shape[-1]) if row else fact.shape != x.shape:
            return f"{name} does not have the shape of {'a row' if row else 'x'}"
    return ""


def _numbers_differ(node: ir.Node, definition: Definition, model: ir.Model) -> str:
    """Why a kernel would not take the node's numbers as its function body does."""
    function = model.functions.get((node.domain, node.op_type, node.overload))
    for name, default in definition.parameters.items():
        if name in WHOLE_PARAMETERS:
            continue
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
