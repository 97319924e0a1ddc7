"""Whether two values are computed by the same expression: same operators, operands in the same places."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_DEEPEST = 64
_DEFAULTS = {"keepdims": 1}  # of the attributes that spellings write out


def same_expression(a: ir.Value, b: ir.Value, depth: int = 0) -> bool:
    """Compares structure down to shared values and equal constants; names do not matter."""
    if a is b:
        return True
    first, second = a.producer(), b.producer()
    if (
        depth > _DEEPEST
        or first is None
        or second is None
        or _constant(a) is not None
        or _constant(b) is not None
    ):
        return _same_constant(a, b)
    if (first.op_type, first.domain, len(first.inputs)) != (
        second.op_type,
        second.domain,
        len(second.inputs),
    ):
        return False
    if a.index() != b.index() or not _same_attributes(first, second):
        return False
    return all(
        (x is None and y is None) or (x is not None and y is not None and same_expression(x, y, depth + 1))
        for x, y in zip(first.inputs, second.inputs, strict=True)
    )


def _same_attributes(a: ir.Node, b: ir.Node) -> bool:
    names = dict.fromkeys((*a.attributes, *b.attributes))
    return all(_attribute(a, name) == _attribute(b, name) for name in names)


def _attribute(node: ir.Node, name: str) -> object:
    return node.attributes[name].value if name in node.attributes else _DEFAULTS.get(name)


def _constant(value: ir.Value) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    producer = value.producer()
    if producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
        return np.asarray(producer.attributes["value"].as_tensor().numpy())
    if producer is None and value.const_value is not None and not value.is_graph_input():
        return np.asarray(value.const_value.numpy()) if value.const_value.size <= 64 else None
    return None


def _same_constant(a: ir.Value, b: ir.Value) -> bool:
    x, y = _constant(a), _constant(b)
    if x is None or y is None:
        return False
    return x.dtype == y.dtype and x.size == y.size and bool(np.all(x.reshape(-1) == y.reshape(-1)))
