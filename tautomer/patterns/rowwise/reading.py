"""A rowwise operator's function, read back as a definition: what kernels are generated from.

The function comes from a file, which is untrusted. So it is taken only where it is exactly what
`patterns.rowwise` writes around operators of a fixed list, each in a form that this list allows; of its text
nothing is kept but numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from tautomer.errors import InputError
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.operation import PER_ROW, WHOLE_PARAMETERS, Definition, Rows, kind_of
from tautomer.patterns.rowwise.program import (
    PREFIX,
    Body,
    Layout,
    described,
    fingerprint,
    is_rowwise,
    names_of_results,
)
from tautomer.patterns.rowwise.steps import MOST_AXES, BodyReader

_MOST_NODES = 500


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
    reader = BodyReader(layout, function.opset_imports.get("", 0), where, values, kinds)
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


def _layout(function: ir.Function, attributes: Mapping[str, Any], where: str) -> Layout:
    if list(function.attributes) == list(WHOLE_PARAMETERS):
        return Layout(grouped=True)
    axis = attributes.get("axis")
    if list(function.attributes) != ["axis"] or not isinstance(axis, int) or not -MOST_AXES <= axis < 0:
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
