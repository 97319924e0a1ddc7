"""A node as its meaning sees it: operator, version, attributes; no names, no edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir


@dataclass(frozen=True)
class Call:
    """An application of an operator.

    Attributes:
        op_type: the operator's name.
        domain: "" for ONNX's own operators.
        version: the opset version of the domain in force.
        attributes: Python numbers, strings, lists of them, or numpy arrays for tensors; only those present.
        outputs: how many outputs the node has.
    """

    op_type: str
    domain: str = ""
    version: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute, or the default when the node does not have it."""
        return self.attributes.get(name, default)


def call_of(node: ir.Node, version: int) -> Call:
    """Reads a node. Sub-graph attributes and references are left out: no meaning reads them."""
    attributes: dict[str, Any] = {}
    for name, attribute in node.attributes.items():
        if attribute.is_ref() or attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            continue
        value = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            value = value.numpy()
        elif isinstance(value, tuple):
            value = list(value)
        attributes[name] = value
    return Call(
        node.op_type, "" if node.domain == "ai.onnx" else node.domain, version, attributes, len(node.outputs)
    )
