"""Inputs that reach every branch: what a size decides takes more than one size to see.

A branch of an If is evidence only where it ran. Where the sizes of some inputs leave branches out, inputs of
other sizes are made, the smallest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from tautomer.errors import TautomerError
from tautomer.graph.naming import label
from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.control_flow import bodies_of
from tautomer.verify.input_sizes import candidate_sizes
from tautomer.verify.inputs import make_inputs
from tautomer.verify.interpreter import run

_TRIES = 2  # the last two candidates: every size 1, then every size 8


def inputs_of_branches(
    original: ir.Model, other: ir.Model, inputs: Mapping[str, Any], *, make: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Inputs for the branches of a model that the inputs at hand leave out.

    Args:
        original: the model that the inputs are made for.
        other: the model with the branches, which takes the same inputs.
        inputs: at hand.
        make: whether others may be made.

    Returns:
        More inputs, and a sentence on each branch that none of all the inputs reaches.
    """
    names = {
        body: f"the {name} of node '{label(node)}' was not run"
        for node in ir.traversal.RecursiveGraphIterator(other.graph)
        if node.op_type == "If"
        for name, body in bodies_of(node)
        if len(body)
    }
    missing = list(names)
    if missing:
        missing = _missed(other, inputs, missing)
    found: list[dict[str, Any]] = []
    for sizes in list(candidate_sizes(original))[::-1][:_TRIES] if make and missing else ():
        made = make_inputs(original, sizes, 1)
        left = _missed(other, made, missing)
        if len(left) < len(missing):
            found.append(made)
            missing = left
    return found, [names[body] for body in missing]


def _missed(model: ir.Model, inputs: Mapping[str, Any], branches: list[ir.Graph]) -> list[ir.Graph]:
    """Those of the branches that do not run; all, where the model does not."""
    seen: set[ir.Graph] = set()

    def observe(value: ir.Value, _: Any) -> None:
        node = value.producer()
        if node is not None and isinstance(node.graph, ir.Graph):
            seen.add(node.graph)

    try:
        run(model, Float64(), inputs, observe=observe)
    except (TautomerError, Unsupported):
        return branches
    return [branch for branch in branches if branch not in seen]
