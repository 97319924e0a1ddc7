"""What a graph does with its inputs: read off the nodes that an input reaches, never off its name.

An integer that indexes a table is below the table's length; what is compared, negated, counted or selected by
is a mask; what says how large other values are makes shapes; all else is data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.facts import Facts, bind_symbols, propagate

_FEW = 5  # rows of a table whose length is not known
_HUGE = 1e3  # a factor beyond this, on 1 - x, makes x a mask

# Where a value goes on, possibly in another shape: operator -> the slots that pass.
_PASSING: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Tile"), (0,)),
    **dict.fromkeys(("Transpose", "Slice", "Split", "Gather", "GatherND", "GatherElements", "Pad"), (0,)),
    **dict.fromkeys(("Cast", "CastLike", "Clip"), (0,)),
    "Where": (1, 2),
    "Concat": tuple(range(64)),
    "Max": tuple(range(8)),
    "Min": tuple(range(8)),
}
# Where positions are read: (domain, operator, slot) -> the slot of the table.
_TABLES = {
    ("", "Gather", 1): 0,
    ("", "GatherElements", 1): 0,
    ("", "GatherND", 1): 0,
    ("", "ScatterElements", 1): 0,
    ("", "ScatterND", 1): 0,
    ("", "SoftmaxCrossEntropyLoss", 1): 0,
    ("", "NegativeLogLikelihoodLoss", 1): 0,
    ("", "RotaryEmbedding", 3): 1,
    ("com.microsoft", "RotaryEmbedding", 1): 2,
    ("com.microsoft", "EmbedLayerNormalization", 0): 2,
    ("com.microsoft", "EmbedLayerNormalization", 1): 4,
    ("com.microsoft", "EmbedLayerNormalization", 8): 3,
}
_LOSSES = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")  # of classes along axis 1
_MASKING = {
    **dict.fromkeys(("Not", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual"), (0, 1)),
    **dict.fromkeys(("Less", "LessOrEqual"), (0, 1)),
    **dict.fromkeys(("Where", "CumSum", "NonZero"), (0,)),
    "Attention": (3,),
    "MultiHeadAttention": (4,),
    "EmbedLayerNormalization": (7,),
}
_SHAPING = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "Pad", "Unsqueeze", "Squeeze", "Split"), (1,)),
    "OneHot": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Loop": (0,),
}


@dataclass
class Role:
    """What the graph does with an input.

    Attributes:
        low: the least index that it may hold.
        high: what its indices are below; None where it indexes no table.
        ignored: the index that a loss ignores.
        mask: whether it is a mask.
        data: whether anything computes with it.
        shaping: whether it says how large other values are.
    """

    low: int = 0
    high: int | None = None
    ignored: int | None = None
    mask: bool = False
    data: bool = False
    shaping: bool = False


def role_of(value: ir.Value, facts: Facts) -> Role:
    """What the graph does with an input, wherever its elements go on to."""
    role = Role()
    seen = {(value, 0, 0)}
    stack = [(value, 0, 0)]  # a value, and the least and most that was added to the input on the way to it
    while stack:
        current, least, most = stack.pop()
        for node, slot in current.uses():
            domain = "" if node.domain == "ai.onnx" else node.domain
            table = _TABLES.get((domain, node.op_type, slot))
            if table is not None:
                length = _length(node, table, facts)
                if node.op_type in _LOSSES and not (least or most):
                    role.ignored = node.attributes.get_int("ignore_index", None)
                role.low, role.high = max(role.low, -least), min(role.high or length - most, length - most)
            elif slot in _MASKING.get(node.op_type, ()) or _negates(node, slot, facts) or _to_bool(node):
                role.mask = role.mask or not (domain == "" and node.op_type == "Attention")
            elif slot in _SHAPING.get(node.op_type, ()):
                role.shaping = True
            elif slot in _PASSING.get(node.op_type, ()):
                stack += [step for v in node.outputs if (step := (v, least, most)) not in seen]
                seen.update((v, least, most) for v in node.outputs)
            elif (moved := _offset(node, slot, facts)) is not None:
                step = (node.outputs[0], least + moved[0], most + moved[1])
                stack += [step] if step not in seen else []
                seen.add(step)
            else:
                role.data = True
    floating = value.dtype is not None and value.dtype.is_floating_point()
    role.mask = role.mask and not (floating and role.data)  # data may be compared with 0 beside its use
    return role


def _length(node: ir.Node, slot: int, facts: Facts) -> int:
    """How many rows the table of an indexing node has, along the axis that is indexed."""
    table = node.inputs[slot]
    shape = facts.get(table).shape
    if not shape:
        return _FEW
    if node.op_type in ("GatherND", "ScatterND"):
        index_shape = facts.get(node.inputs[1]).shape
        first = node.attributes["batch_dims"].as_int() if "batch_dims" in node.attributes else 0
        return min(shape[first : first + (index_shape[-1] if index_shape else 1)], default=_FEW)
    return shape[node.attributes.get_int("axis", int(node.op_type in _LOSSES))]


def _to_bool(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.BOOL


def _negates(node: ir.Node, slot: int, facts: Facts) -> bool:
    """True for 1 - x; of floats only where a huge factor follows."""
    if node.op_type != "Sub" or slot != 1:
        return False
    one = facts.get(node.inputs[0]).array
    if one is None or one.size != 1 or float(one.reshape(())) != 1.0:
        return False
    kind = facts.get(node.inputs[1]).dtype
    if kind is None or not kind.is_floating_point():
        return True
    for user, _ in node.outputs[0].uses():
        factors = [facts.get(v).array for v in user.inputs] if user.op_type == "Mul" else []
        if _to_bool(user) or any(
            f is not None and f.size == 1 and abs(float(f.item())) > _HUGE for f in factors
        ):
            return True
    return False


def _offset(node: ir.Node, slot: int, facts: Facts) -> tuple[int, int] | None:
    """The least and the most that a node adds to an integer, when it adds a constant."""
    if node.op_type not in ("Add", "Sub") or (node.op_type == "Sub" and slot == 1):
        return None
    other = facts.get(node.inputs[1 - slot]).array
    if other is None or other.dtype.kind not in "iu" or not other.size:
        return None
    least, most = int(other.min()), int(other.max())
    return (least, most) if node.op_type == "Add" else (-most, -least)


def table_length(value: ir.Value, facts: Facts) -> int:
    """The length of the shortest table that an integer value indexes; 0 when it indexes none."""
    return role_of(value, facts).high or 0


def data_inputs(model: ir.Model, sizes: Mapping[str, int]) -> list[str]:
    """The float inputs that are data, not masks."""
    facts = propagate(model, {**bind_symbols(model), **sizes})
    return [
        str(value.name)
        for value in model.graph.inputs
        if value.dtype is not None
        and value.dtype.is_floating_point()
        and value.name not in model.graph.initializers
        and not role_of(value, facts).mask
    ]
