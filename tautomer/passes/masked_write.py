"""masked write: a number written where a mask is true, place by place  ->  a choice for every element.

    ScatterND(x, Transpose(NonZero(mask)), number for each place) = Where(mask, number, x)

Condition: the mask has x's shape, and all that is written is one number. Exporters write `x[mask] = number`
so; the list of places has a size that nobody knows, and no pointwise chain goes past it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_SPREADS = ("Expand", "Reshape", "Identity", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class MaskedWrite:
    """Writes masked writes of one number as Where."""

    name: ClassVar[str] = "masked write"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each write through a mask."""
        found = [(node, _mask(node)) for node in work.model.graph if node.op_type == "ScatterND"]
        return [self._rewritten(work, node, mask) for node, mask in found if mask is not None]

    def _rewritten(self, work: Workspace, node: ir.Node, mask: ir.Value) -> Remark:
        where, x, number = label(node), node.inputs[0], _number(work, node.inputs[2])
        shape = work.facts.get(x).shape
        alike = shape is not None and work.facts.get(mask).shape == shape
        if (
            x is None
            or number is None
            or not alike
            or len(work.facts.get(number).shape or ()) > len(shape or ())
        ):
            reason = "what is written is not one number, or the mask has another shape"
            return Remark("missed", self.name, "ScatterND", where, reason)
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        b = work.builder(graph)
        new = b.op("Where", mask, number, x)
        leaves = {value: work.origin(value) for value in (mask, x)}
        refusal = work.evidence.refuses((self.name, where), node.outputs[0], new, leaves)
        if refusal:
            b.discard()
            return Remark("missed", self.name, "ScatterND", where, refusal)
        places = [
            made for made in (value.producer() for value in node.inputs[1:] if value is not None) if made
        ]
        work.replace(node.outputs[0], new, b, [*places, node])
        return Remark("passed", self.name, "ScatterND", where, "a list of places became a choice")


def _mask(node: ir.Node) -> ir.Value | None:
    """The mask whose true places a ScatterND writes to."""
    turned = None if node.inputs[1] is None else node.inputs[1].producer()
    if turned is None or turned.op_type != "Transpose" or turned.inputs[0] is None:
        return None
    listed, perm = turned.inputs[0].producer(), turned.attributes.get_ints("perm")
    if listed is None or listed.op_type != "NonZero" or (perm and list(perm) != [1, 0]):
        return None
    return listed.inputs[0] if node.attributes.get_string("reduction", "none") == "none" else None


def _number(work: Workspace, value: ir.Value | None) -> ir.Value | None:
    """The one element that a tensor repeats."""
    while value is not None and work.facts.get(value).size != 1:
        made = value.producer()
        value = made.inputs[0] if made is not None and made.op_type in _SPREADS else None
    return value
