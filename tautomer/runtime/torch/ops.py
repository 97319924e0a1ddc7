"""Our kernels, called from Python and built when first wanted; torch's own operators where there is none.

    y = call("rms_norm", x, scale, epsilon=1e-6)
    y, total = call("add_layer_norm", x, residual, scale, bias, epsilon=1e-5)

A program that runs graphs which were compiled elsewhere - by AOTInductor, or kept by torch - loads the
operators first, by `load_kernels()`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from tautomer.codegen.storage import DTYPES
from tautomer.codegen.torch.operators import OPERATORS, TorchOperator, forward, operator_of
from tautomer.errors import InputError
from tautomer.runtime.torch.ops_library import attach, attach_cuda, operators_library
from tautomer.runtime.torch.ops_rules import overload
from tautomer.runtime.torch.ops_stock import stock


def call(name: str, x: torch.Tensor, *operands: torch.Tensor | None, **parameters: float) -> Any:
    """Runs an operator over the last axis, or on elements.

    Args:
        name: its name without a version; `names()` has them.
        x: of shape (..., n).
        operands: a gate or residual of the shape and type of x; a scale or bias of shape (n,), or None.
        parameters: such as epsilon; one that is not given is that of the definition.

    Returns:
        A tensor of the shape and type of x; of what adds a residual, also the sum.

    Raises:
        InputError: no such operator or parameter, or a wrong number of operands.
        RuntimeError: shapes or types do not fit; raised by torch.
    """
    operator = _operator(name)
    definition = operator.definition
    unknown = set(parameters) - set(definition.parameters)
    if unknown or len(operands) != len(definition.operands):
        raise InputError(
            f"{name} takes {', '.join(('x', *definition.operands, *definition.parameters))}", where="call"
        )
    numbers = [parameters.get(one, default) for one, default in definition.parameters.items()]
    found = kernel(operator, x)
    return (found or stock(name))(x, *operands, *numbers)


def kernel(operator: TorchOperator, x: torch.Tensor) -> Any:
    """torch's operator that runs our kernel on tensors like this one; None where there is none."""
    dtype = str(x.dtype).removeprefix("torch.")
    if x.device.type == "cuda":
        return None if attach_cuda(operator, x) else overload(forward(operator))
    if x.device.type != "cpu" or dtype not in DTYPES or attach(operator, dtype):
        return None
    return overload(forward(operator))


def load_kernels(names: Iterable[str] = (), dtypes: Iterable[str] = ("float32",)) -> Path:
    """Makes operators known to torch in this process, with their kernels; builds what is not in the cache.

    Args:
        names: operators without version; all if there are none.
        dtypes: of float32, float16 and bfloat16.

    Returns:
        The library that holds the operators, without the kernels.

    Raises:
        InputError: no such operator, type, or no kernel for it here.
        TautomerError: there is no library.
    """
    path = operators_library()
    types = list(dtypes)
    for operator in [_operator(name) for name in names] or OPERATORS:
        for dtype in types:
            if dtype not in DTYPES:
                raise InputError(f"no kernels for {dtype}", remedy=f"choose among {', '.join(DTYPES)}")
            reason = attach(operator, dtype)
            if reason:
                raise InputError(f"{operator.name} of {dtype} has no kernel here: {reason}")
    return path


def names() -> tuple[str, ...]:
    """The operators, without version."""
    return tuple(one.name for one in OPERATORS)


def _operator(name: str) -> TorchOperator:
    if name not in names():
        raise InputError(f"no operator '{name}'", remedy=f"choose among {', '.join(names())}")
    return operator_of(name)
