"""Operations spelled in primitive operators, in exactly the form that onnxruntime fuses.

The order of operands matters: its fusions read epsilon from the second input of Add only, for instance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from tautomer.graph.build import Builder

Spelling = Callable[[Builder, Sequence[ir.Value | None], Mapping[str, Any], ir.DataType], ir.Value]


def _layer_norm(
    b: Builder, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtype: ir.DataType
) -> ir.Value:
    """c = x - mean(x); c / sqrt(mean(c^2) + epsilon) * scale + bias."""
    x, scale, bias = inputs
    assert x is not None
    axes = list(range(attributes["axis"], 0))
    centred = b.op("Sub", x, b.reduce("ReduceMean", x, axes))
    variance = b.reduce("ReduceMean", b.op("Pow", centred, b.scalar(2.0, dtype)), axes)
    root = b.op("Sqrt", b.op("Add", variance, b.scalar(attributes["epsilon"], dtype)))
    return b.op("Add", b.op("Mul", b.op("Div", centred, root), scale), bias)


def _rms_norm(
    b: Builder, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtype: ir.DataType
) -> ir.Value:
    """x / sqrt(mean(x^2) + epsilon) * scale."""
    x, scale = inputs
    assert x is not None
    square = b.reduce("ReduceMean", b.op("Pow", x, b.scalar(2.0, dtype)), list(range(attributes["axis"], 0)))
    root = b.op("Sqrt", b.op("Add", square, b.scalar(attributes["epsilon"], dtype)))
    return b.op("Mul", b.op("Div", x, root), scale)


def _gelu(
    b: Builder, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtype: ir.DataType
) -> ir.Value:
    """x / 2 * (1 + erf(x / sqrt(2))), or with tanh."""
    x = inputs[0]
    one, half = b.scalar(1.0, dtype), b.scalar(0.5, dtype)
    if attributes["approximate"] == "tanh":
        cube = b.op("Mul", b.op("Pow", x, b.scalar(3.0, dtype)), b.scalar(0.044715, dtype))
        inner = b.op("Mul", b.op("Add", x, cube), b.scalar(math.sqrt(2.0 / math.pi), dtype))
        return b.op("Mul", b.op("Mul", x, half), b.op("Add", b.op("Tanh", inner), one))
    error = b.op("Erf", b.op("Div", x, b.scalar(math.sqrt(2.0), dtype)))
    return b.op("Mul", b.op("Mul", x, b.op("Add", error, one)), half)


def _swish(
    b: Builder, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtype: ir.DataType
) -> ir.Value:
    """x * sigmoid(alpha * x)."""
    x, alpha = inputs[0], attributes["alpha"]
    scaled = x if alpha == 1.0 else b.op("Mul", x, b.scalar(alpha, dtype))
    return b.op("Mul", x, b.op("Sigmoid", scaled))


def _mish(
    b: Builder, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtype: ir.DataType
) -> ir.Value:
    """x * tanh(softplus(x))."""
    return b.op("Mul", inputs[0], b.op("Tanh", b.op("Softplus", inputs[0])))


def _hard_swish(
    b: Builder, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtype: ir.DataType
) -> ir.Value:
    """x * hardsigmoid(x / 6 + 1 / 2)."""
    return b.op("Mul", inputs[0], b.op("HardSigmoid", inputs[0], alpha=1.0 / 6.0, beta=0.5))


def _squared_relu(
    b: Builder, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], dtype: ir.DataType
) -> ir.Value:
    """relu(x) * relu(x)."""
    positive = b.op("Relu", inputs[0])
    return b.op("Mul", positive, positive)


SPELLINGS: dict[str, Spelling] = {
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "Gelu": _gelu,
    "Swish": _swish,
    "Mish": _mish,
    "HardSwish": _hard_swish,
    "SquaredRelu": _squared_relu,
}
# How many kernels a spelling runs as after the runtime's own fusions.
KERNELS = {
    "LayerNormalization": 1,
    "RMSNormalization": 1,
    "Gelu": 1,
    "Swish": 1,
    "Mish": 3,
    "HardSwish": 2,
    "SquaredRelu": 2,
}
