"""The operations that kernels are timed on: how torch, onnxruntime and numpy compute each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.nn import functional

aten = torch.ops.aten
Tensor = torch.Tensor
EPSILON = 1e-5


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        key: the key of its definition.
        torch: torch's own functions; these are what inductor compiles, and in double precision the reference.
        preallocated: the same on `(*inputs, out)`, where torch can write to what it is given.
        onnx: bodies of graphs that compute y.
        numpy: the same in numpy, where that is what one would write.
        spread: the standard deviation of the inputs.
    """

    key: str
    torch: Callable[..., Tensor]
    onnx: tuple[str, ...]
    preallocated: Callable[..., Any] | None = None
    numpy: Callable[..., Any] | None = None
    spread: float = 1.0


@dataclass(frozen=True)
class Case:
    """An operation on rows."""

    operation: Operation
    rows: int
    columns: int

    @property
    def name(self) -> str:
        """The size, in powers of two where rows are long."""
        power = self.columns.bit_length() - 1
        short = self.columns < 1 << 20 or self.columns != 1 << power
        return f"{self.rows} x {self.columns if short else f'2^{power}'}"

    @property
    def size(self) -> int:
        """How many elements x has."""
        return prod((self.rows, self.columns))


def _np_softmax(x: Any) -> Any:
    import numpy as np

    y = np.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


def _np_layer_norm(x: Any, scale: Any, bias: Any) -> Any:
    y = x - x.mean(axis=-1, keepdims=True)
    y *= ((y * y).mean(axis=-1, keepdims=True) + EPSILON) ** -0.5
    y *= scale
    y += bias
    return y


def _np_rms_norm(x: Any, scale: Any) -> Any:
    y = x * ((x * x).mean(axis=-1, keepdims=True) + EPSILON) ** -0.5
    y *= scale
    return y


def _torch_layer_norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], scale, bias, EPSILON)


def _torch_layer_norm_to(x: Tensor, scale: Tensor, bias: Tensor, out: Tensor) -> None:
    mean, rstd = x.new_empty(len(x), 1), x.new_empty(len(x), 1)
    aten.native_layer_norm.out(x, x.shape[-1:], scale, bias, EPSILON, out0=out, out1=mean, out2=rstd)


def _torch_rms_norm(x: Tensor, scale: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], scale, EPSILON)


def _swiglu_to(x: Tensor, gate: Tensor, out: Tensor) -> None:
    aten.silu.out(x, out=out)
    torch.mul(out, gate, out=out)


_ATTRIBUTES = "<axis = -1, epsilon = 1e-5>"
_SKIP = "com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 1e-5> (x, residual, scale)"
SOFTMAX = Operation(
    "Softmax",
    lambda x: torch.softmax(x, -1),
    ("y = Softmax <axis = -1> (x)",),
    lambda x, out: aten._softmax.out(x, -1, False, out=out),
    _np_softmax,
)
LAYER_NORM = Operation(
    "LayerNormalization",
    _torch_layer_norm,
    (f"y = LayerNormalization {_ATTRIBUTES} (x, scale, bias)",),
    _torch_layer_norm_to,
    _np_layer_norm,
)
RMS_NORM = Operation(
    "RMSNormalization",
    _torch_rms_norm,
    (f"y = RMSNormalization {_ATTRIBUTES} (x, scale)",),
    numpy=_np_rms_norm,
)
ADD_RMS_NORM = Operation(
    "AddRMSNormalization",
    lambda x, residual, scale: _torch_rms_norm(x + residual, scale),
    (f"s = Add(x, residual) y = RMSNormalization {_ATTRIBUTES} (s, scale)", f"y = {_SKIP}"),
    numpy=lambda x, residual, scale: _np_rms_norm(x + residual, scale),
)
GELU = Operation(
    "Gelu[approximate=none]",
    functional.gelu,
    ("y = Gelu (x)",),
    lambda x, out: aten.gelu.out(x, out=out),
    spread=3.0,
)
GELU_TANH = Operation(
    "Gelu[approximate=tanh]",
    lambda x: functional.gelu(x, approximate="tanh"),
    ('y = Gelu <approximate = "tanh"> (x)',),
    lambda x, out: aten.gelu.out(x, approximate="tanh", out=out),
    spread=3.0,
)
SWIGLU = Operation(
    "SwiGLU",
    lambda x, gate: functional.silu(x) * gate,
    (
        "s = Sigmoid(x) t = Mul(x, s) y = Mul(t, gate)",
        "s = com.microsoft.QuickGelu <alpha = 1.0> (x) y = Mul(s, gate)",
    ),
    _swiglu_to,
    spread=3.0,
)

_NORM_SIZES = ((64, 1024), (1024, 768), (16384, 1024))
_SOFTMAX_SIZES = (
    *((64, 1024), (4096, 768), (16384, 1024), (4096, 8192), (2048, 32000), (512, 131072)),
    *((1, 131072), (1, 1 << 22), (1, 1 << 24), (1, 1 << 26)),
)
CASES = (
    *(Case(SOFTMAX, *size) for size in _SOFTMAX_SIZES),
    *(Case(op, *size) for op in (LAYER_NORM, RMS_NORM, ADD_RMS_NORM) for size in _NORM_SIZES),
    *(Case(op, 4096, 4096) for op in (GELU, GELU_TANH, SWIGLU)),
)
