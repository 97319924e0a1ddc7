"""ONNX's own Attention: softmax(cap(q k^T * scale) + mask) v in one node, read as if it were written out.

A query whose keys are all removed gives 0 there. What is causal counts from the first key: j <= i.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from tautomer.patterns.attention.operands import walk_heads
from tautomer.patterns.attention.weights import Role, Weights
from tautomer.patterns.recognition.cones import ConeFinder

_KNOWN = ("scale", "is_causal", "q_num_heads", "kv_num_heads", "softcap", "qk_matmul_output_mode")
_MASK = 3  # its place among the inputs; what follows is a cache and its lengths


def is_native(node: ir.Node) -> bool:
    """Whether a node is ONNX's Attention."""
    return node.op_type == "Attention" and node.domain in ("", "ai.onnx")


def numbers_of(node: ir.Node) -> dict[str, Any]:
    """Its attributes as they are reported."""
    names = ("scale", "is_causal", "q_num_heads", "kv_num_heads", "softcap")
    found = {name: node.attributes[name].value for name in names if name in node.attributes}
    return {"score": "softmax", **found}


def obstacle(node: ir.Node, finder: ConeFinder) -> str:
    """Why it is not attention of the kind that is written out, or ""."""
    shapes = [finder.fact(value).shape if value is not None else None for value in node.inputs[:_MASK]]
    if any(shape is None or len(shape) != 4 for shape in shapes):
        return "its operands do not have the axes of sequences, heads, positions and channels"
    if any(value is not None for value in node.inputs[_MASK + 1 :]):
        return "it has a cache of keys, or lengths of sequences"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "its keys, values or scores are read"
    more = [name for name in node.attributes if name not in _KNOWN]
    return f"its attribute '{more[0]}' is not one that kernels have" if more else ""


def parts(node: ir.Node, finder: ConeFinder) -> dict[str, Any]:
    """What `RecognisedAttention` holds of a node without an obstacle."""
    numbers = numbers_of(node)
    q, k, v = node.inputs[:_MASK]
    mask = node.inputs[_MASK] if len(node.inputs) > _MASK else None
    assert q is not None and k is not None and v is not None
    depth = (finder.fact(q).shape or ())[-1]
    leaves: tuple[tuple[Role, ir.Value], ...] = ()
    if mask is not None:
        leaves = (("keeps" if finder.fact(mask).dtype == ir.DataType.BOOL else "adds", mask),)
    weights = Weights(
        "softmax",
        scale=float(numbers.get("scale") or depth**-0.5),
        softcap=float(numbers.get("softcap", 0.0)),
        roles=tuple(role for role, _ in leaves),
    )
    heads = tuple(walk_heads(value, finder, "h") for value in (q, k, v))
    return {
        "heads": heads,
        "weights": weights,
        "leaves": leaves,
        "left": q,
        "values": v,
        "inner": (node,),
        "causal": "start" if numbers.get("is_causal") else "",
    }
