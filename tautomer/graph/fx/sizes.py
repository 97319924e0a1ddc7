"""Shapes and element types of FX values, as the IR declares them."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

# By the names that torch prints.
_TYPES = {
    "torch.float64": ir.DataType.DOUBLE,
    "torch.float32": ir.DataType.FLOAT,
    "torch.float16": ir.DataType.FLOAT16,
    "torch.bfloat16": ir.DataType.BFLOAT16,
    "torch.int64": ir.DataType.INT64,
    "torch.int32": ir.DataType.INT32,
    "torch.int16": ir.DataType.INT16,
    "torch.int8": ir.DataType.INT8,
    "torch.uint8": ir.DataType.UINT8,
    "torch.bool": ir.DataType.BOOL,
}


def element_type(dtype: Any) -> ir.DataType | None:
    """The element type of a torch.dtype; None for one that the vocabulary lacks (complex, quantized)."""
    return _TYPES.get(str(dtype))


def torch_type(dtype: ir.DataType) -> Any:
    """The torch.dtype of an element type."""
    import torch

    name = next(name for name, known in _TYPES.items() if known == dtype)
    return getattr(torch, name.removeprefix("torch."))


def size(extent: Any) -> int | str:
    """A number, or the text of a symbolic size."""
    return extent if isinstance(extent, int) else str(extent.node.expr)


def declare(value: ir.Value, tensor: Any) -> None:
    """Gives a value the type and shape of an FX value."""
    dtype = element_type(tensor.dtype)
    if dtype is not None:
        value.type = ir.TensorType(dtype)
    value.shape = ir.Shape([size(extent) for extent in tensor.shape])


def is_plain(tensor: Any) -> bool:
    """Whether a value is one dense tensor of a type of the vocabulary, with backed sizes."""
    import torch

    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and not tensor.is_nested
        and element_type(tensor.dtype) is not None
    )
