"""What any node computes: a primitive by the operator table, a named operation by its definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tautomer.graph.call import Call
from tautomer.graph.semantics.domain import no_meaning
from tautomer.graph.semantics.table import Unsupported, evaluate, meaning_of
from tautomer.patterns.operation import Definition, definition_of
from tautomer.patterns.rows import apply_all

# Operators of onnxruntime that are a definition under another name: (op, attributes, renamed attributes).
_ALIASES: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("com.microsoft", "Gelu"): ("Gelu", {"approximate": "none"}),
    ("com.microsoft", "BiasGelu"): ("Gelu", {"approximate": "none"}),
    ("com.microsoft", "FastGelu"): ("Gelu", {"approximate": "tanh"}),
    ("com.microsoft", "QuickGelu"): ("Swish", {}),
    ("", "SimplifiedLayerNormalization"): ("RMSNormalization", {}),
    ("com.microsoft", "SimplifiedLayerNormalization"): ("RMSNormalization", {}),
    ("com.microsoft", "LayerNormalization"): ("LayerNormalization", {}),
}
# An onnxruntime activation adds its second input, a bias, before it applies.
_BIASED = {"BiasGelu", "FastGelu"}
_QUICK_GELU_ALPHA = 1.702  # onnxruntime's default where ONNX's Swish has 1


def named(call: Call) -> tuple[Definition, dict[str, Any]] | None:
    """The definition that a call is by name, and the attributes it is applied with."""
    alias = _ALIASES.get((call.domain, call.op_type))
    if alias is not None:
        op, fixed = alias
        attributes = {**call.attributes, **fixed}
        if call.op_type == "QuickGelu":
            attributes.setdefault("alpha", _QUICK_GELU_ALPHA)
    elif call.domain in ("", "tautomer"):
        op, attributes = call.op_type, dict(call.attributes)
    else:
        return None
    definition = definition_of(op, attributes)
    if definition is None or (definition.domain and call.domain != definition.domain):
        return None
    return definition, attributes


def row_axes(definition: Definition, attributes: dict[str, Any], version: int, rank: int) -> tuple[int, ...]:
    """The axes of a row of a named call, as ONNX reads its attributes at this version."""
    if definition.rows == "":
        return ()
    if definition.rows == "folded":
        raise Unsupported(definition.op, "its axes come as an input")
    # Softmax and LogSoftmax below 13 flatten to two dimensions from the axis on
    flattens = definition.op in ("Softmax", "LogSoftmax") and version < 13
    if definition.rows.startswith("channel") and not definition.domain:
        return tuple(range(2 if definition.rows == "channels" else 1, rank))
    axis = int(attributes.get("axis", 1 if flattens else -1)) % max(rank, 1)
    if definition.rows == "trailing" or flattens:
        return tuple(range(axis, rank))
    return (axis,)


def compute(m: Any, call: Call, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Evaluates one node in a domain.

    Raises:
        Unsupported: nobody has said what the operator means, or not in this form.
    """
    if meaning_of(call.domain, call.op_type) is not None:
        return evaluate(m, call, inputs)
    found = named(call)
    if found is None:
        raise no_meaning(call.op_type, call.domain)
    definition, attributes = found
    x, rest = inputs[0], [value for value in inputs[1:] if value is not None]
    if call.outputs > len(definition.results):
        raise Unsupported(call.op_type, "a second output")
    if call.op_type in _BIASED and rest:
        x, rest = x + rest[0], []
    if len(rest) > len(definition.operands):
        raise Unsupported(call.op_type, "more inputs than its definition")
    parameters = {name: attributes[name] for name in definition.parameters if name in attributes}
    axes = row_axes(definition, attributes, call.version, len(m.shape(x)))
    operands = dict(zip(definition.operands, rest, strict=False))
    return apply_all(definition, m, x, axes=axes, operands=operands, parameters=parameters)
