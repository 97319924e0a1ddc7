"""The operators as torch has them: what runs where no kernel of ours does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from tautomer.codegen.torch.operators import forward, operator_of
from tautomer.runtime.torch.ops_meaning import meaning


def _layer_norm(x: Any, scale: Any, bias: Any, epsilon: float) -> Any:
    return functional.layer_norm(x, x.shape[-1:], scale, bias, epsilon)


def _rms_norm(x: Any, scale: Any, epsilon: float) -> Any:
    return functional.rms_norm(x, x.shape[-1:], scale, epsilon)


def _add_layer_norm(x: Any, residual: Any, scale: Any, bias: Any, epsilon: float) -> Any:
    total = x + residual
    return _layer_norm(total, scale, bias, epsilon), total


def _add_rms_norm(x: Any, residual: Any, scale: Any, epsilon: float) -> Any:
    total = x + residual
    return _rms_norm(total, scale, epsilon), total


def _silu(x: Any, alpha: float) -> Any:
    return functional.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


STOCK: dict[str, Callable[..., Any]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "add_layer_norm": _add_layer_norm,
    "add_rms_norm": _add_rms_norm,
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": _silu,
    "squared_relu": lambda x: torch.relu(x).square(),
    "swiglu": lambda x, gate, alpha: _silu(x, alpha) * gate,
    "geglu": lambda x, gate: functional.gelu(x) * gate,
    "geglu_tanh": lambda x, gate: functional.gelu(x, approximate="tanh") * gate,
    "reglu": lambda x, gate: torch.relu(x) * gate,
}


def stock(name: str) -> Callable[..., Any]:
    """The operator of that name without version, called as ours is."""
    return STOCK.get(name) or meaning(forward(operator_of(name)))
