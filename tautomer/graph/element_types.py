"""Element types of outputs, for operators whose output is not simply of the type of the first input."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.shape_rules import Inputs, given, type_rule

Types = Sequence[ir.DataType | None]
BOOL, INT64, FLOAT = ir.DataType.BOOL, ir.DataType.INT64, ir.DataType.FLOAT


def _of(x: Inputs, i: int) -> ir.DataType | None:
    fact = x[i] if i < len(x) else None
    return None if fact is None else fact.dtype


def _attribute(call: Call, name: str, default: ir.DataType | None) -> ir.DataType | None:
    number = call.get(name)
    return default if number is None else ir.DataType(int(number))


@type_rule(
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"
)
def truth(call: Call, x: Inputs) -> Types:
    """Answers are booleans."""
    return [BOOL]


@type_rule("Shape", "Size", "ArgMax", "ArgMin", "NonZero")
def position(call: Call, x: Inputs) -> Types:
    """Sizes and positions are int64."""
    return [INT64]


@type_rule("MatMulInteger", "ConvInteger")
def accumulated(call: Call, x: Inputs) -> Types:
    """Products of bytes are added in int32."""
    return [ir.DataType.INT32]


@type_rule("TopK", "MaxPool")
def with_positions(call: Call, x: Inputs) -> Types:
    """Elements of the input, and where they were."""
    return [_of(x, 0), INT64]


@type_rule("Cast")
def cast(call: Call, x: Inputs) -> Types:
    """What it is cast to."""
    return [_attribute(call, "to", None)]


@type_rule("CastLike", "Where", "DequantizeLinear", "QuantizeLinear")
def of_the_second(call: Call, x: Inputs) -> Types:
    """Of the type of the second input; quantised, of the third, and uint8 without one."""
    if call.op_type == "QuantizeLinear":
        return [_of(x, 2) if given(x, 2) else _attribute(call, "output_dtype", ir.DataType.UINT8)]
    return [_of(x, 1)]


@type_rule("OneHot")
def of_the_third(call: Call, x: Inputs) -> Types:
    """Of the type of the two values."""
    return [_of(x, 2)]


@type_rule("Dropout")
def dropout(call: Call, x: Inputs) -> Types:
    """The input, and a mask that was of its type below opset 10."""
    return [_of(x, 0), BOOL if not 0 < call.version < 10 else _of(x, 0)]


@type_rule("ConstantOfShape")
def constant_of_shape(call: Call, x: Inputs) -> Types:
    """Of the type of its number, float by default."""
    value = call.get("value")
    return [FLOAT if value is None else ir.DataType.from_numpy(value.dtype)]


@type_rule("EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli")
def like(call: Call, x: Inputs) -> Types:
    """Of the type of the input unless told."""
    return [_attribute(call, "dtype", _of(x, 0))]


@type_rule("RandomNormal", "RandomUniform")
def random(call: Call, x: Inputs) -> Types:
    """Float unless told."""
    return [_attribute(call, "dtype", FLOAT)]


@type_rule("LayerNormalization")
def layer_normalization(call: Call, x: Inputs) -> Types:
    """The input's, and statistics of the type that it computes in."""
    return [_of(x, 0), *([_attribute(call, "stash_type", FLOAT)] * 2)]
