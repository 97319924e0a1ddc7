"""The operators of sparse linear maps on tensors of a GPU, by Triton kernels.

They are registered for CUDA devices beside the C++ kernels, and where a compiler of torch works out what a
graph does it sees their launches, as in `ops_cuda`. More rows than the kernels are for, other types and empty
tensors are computed by torch's own operators.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn.functional import linear

from tautomer.codegen.storage import DTYPES
from tautomer.codegen.torch.operators import NAMESPACE
from tautomer.codegen.torch.sparse import NAMES, SCHEMAS
from tautomer.errors import TautomerError
from tautomer.patterns.sparse_linear import FEW
from tautomer.runtime.torch import first_runs
from tautomer.runtime.torch.compat import FunctionalTensorMode, keeps_triton_operators
from tautomer.runtime.torch.ops_cuda import too_old
from tautomer.runtime.torch.sparse_library import load_operators, register_fakes
from tautomer.runtime.triton import sparse

_LOCK = threading.RLock()
_KEPT: list[Any] = []  # registrations end with the object that made them


def attach_sparse_cuda(h: torch.Tensor) -> str:
    """Makes sparse linear maps run on tensors like h, of a GPU; why they do not run by a kernel, or ""."""
    dtype = str(h.dtype).removeprefix("torch.")
    reason = f"there is no kernel for {dtype}" if dtype not in DTYPES else too_old(h)
    reason = reason or first_runs.of_sparse(h, 1)
    if not reason:
        with _LOCK:
            _known()
    return reason


@cache
def _known() -> None:
    """Makes torch know the operators; without a C++ compiler, without kernels for the CPU."""
    library = torch.library.Library(NAMESPACE, "FRAGMENT")
    _KEPT.append(library)
    try:
        load_operators()
    except TautomerError:
        for schema in SCHEMAS:
            library.define(schema)
        register_fakes()
    functions: tuple[Callable[..., Any], ...] = (plain, gated)
    for name, function in zip(NAMES, functions, strict=True):
        library.impl(name, function, "CUDA")
        rule = _decomposed(function)
        torch.library.register_torch_dispatch(f"{NAMESPACE}::{name}", FunctionalTensorMode, rule, lib=library)


def plain(
    h: torch.Tensor,
    rows: torch.Tensor,
    bias: torch.Tensor | None,
    finite: torch.Tensor,
    *,
    traced: bool = False,
) -> torch.Tensor:
    """h W + b; arguments as the operator has them."""
    if not _has_kernel(h, rows):
        return linear(h, rows.t(), bias)
    return sparse.sparse_linear(h, rows, bias, finite, traced=traced)


def gated(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor | None,
    rows: torch.Tensor,
    bias: torch.Tensor | None,
    finite: torch.Tensor,
    *,
    traced: bool = False,
) -> torch.Tensor:
    """(gate * (x U^T + c)) W + b; arguments as the operator has them."""
    if not (x.numel() and _has_kernel(gate, rows)):
        return linear(gate * linear(x, up, up_bias), rows.t(), bias)
    return sparse.sparse_gated_linear(x, gate, up, up_bias, rows, bias, finite, traced=traced)


def _has_kernel(h: torch.Tensor, rows: torch.Tensor) -> bool:
    """Whether the kernels are for tensors like these."""
    if not (rows.numel() and h.dtype == rows.dtype and str(h.dtype).removeprefix("torch.") in DTYPES):
        return False
    count = h.numel() // rows.shape[0]
    return isinstance(count, int) and 0 < count <= FEW and not (too_old(h) or first_runs.of_sparse(h, count))


def _decomposed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of FunctionalTensorMode, as `torch.library.triton_op` has it."""

    def rule(mode: Any, op: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        h, weight = args[0] if function is plain else args[1], args[-3]
        if h.device.type != "cuda" or keeps_triton_operators() or not _has_kernel(h, weight):
            return mode.__torch_dispatch__(op, types, args, kwargs)
        with mode:
            return function(*args, traced=True)

    return rule
