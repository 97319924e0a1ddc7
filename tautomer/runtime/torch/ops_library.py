"""Building, checking and loading what makes kernels operators of torch."""

from __future__ import annotations

import ctypes
import logging
import threading
from functools import cache
from pathlib import Path
from typing import Any

from tautomer.codegen.cost_model import thresholds
from tautomer.codegen.kernel import Isa, Kernel, kernel_for, kernel_of
from tautomer.codegen.torch.library import TARGET_VERSION, index_of, index_of_dtype, library_text
from tautomer.codegen.torch.operators import (
    NAMESPACE,
    OPERATORS,
    TorchOperator,
    backward,
    forward,
    kernel,
    signatures,
)
from tautomer.errors import InternalError, ResourceError, TautomerError
from tautomer.machine import Machine
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.loaded import load
from tautomer.runtime.machine import this_machine
from tautomer.runtime.onnxruntime.kernels import isa_of
from tautomer.runtime.torch.ops_check import check_of

_LOG = logging.getLogger("tautomer.torch")
_LOCK = threading.RLock()
_KEPT: list[Any] = []  # definitions end with the object that made them


def attach(operator: TorchOperator, dtype: str) -> str:
    """Makes an operator run on CPU tensors of a type; builds what is not in the cache.

    What cannot be had is said once, on the log `tautomer.torch`, and not tried again in this process.

    Args:
        operator: which.
        dtype: float32, float16 or bfloat16.

    Returns:
        Why it does not run, or "".
    """
    with _LOCK:
        return _attached(operator, dtype)


@cache
def _attached(operator: TorchOperator, dtype: str) -> str:
    reason = _loaded()
    if reason:
        return reason
    try:
        _attach(operator, dtype)
    except TautomerError as error:
        _LOG.warning("torch runs %s of %s by its own operators: %s", operator.name, dtype, error)
        return str(error)
    return ""


def attach_cuda(operator: TorchOperator, x: Any) -> str:
    """Makes the operators run on tensors of a GPU; their kernels are compiled when they are first launched.

    Args:
        operator: which.
        x: a tensor like those that it is to run on.

    Returns:
        Why it runs without a kernel of ours, or "".
    """
    from tautomer.runtime.torch.ops_cuda import no_kernel

    reason = no_kernel(forward(operator), x)
    if not reason:
        with _LOCK:
            _known()
    return reason


@cache
def _known() -> None:
    """Makes torch know the operators; without a C++ compiler, without kernels for the CPU."""
    import torch

    from tautomer.runtime.torch import ops_rules

    if _loaded():
        library = torch.library.Library(NAMESPACE, "FRAGMENT")
        _KEPT.append(library)
        for one in (*map(forward, OPERATORS), *signatures()):
            library.define(one.schema)
        ops_rules.register_all()


@cache
def _loaded() -> str:
    """Loads the library of the operators; why it cannot be, or ""."""
    from tautomer.runtime.torch import ops_rules

    try:
        _load_operators()
    except TautomerError as error:
        _LOG.warning("torch runs without kernels of ours: %s", error)
        return str(error)
    ops_rules.register_all()
    return ""


def operators_library() -> Path:
    """The library of the operators, from the cache or built.

    Raises:
        TautomerError: it cannot be built.
    """
    return library(*torch_flags(library_text()))


def torch_flags(text: str) -> tuple[str, tuple[str, ...]]:
    """The text of a library against torch's stable ABI and the flags that it is built with."""
    import torch

    root = Path(torch.__file__).parent
    headers = f"// with the headers of torch {torch.__version__.split('+')[0]}\n"
    flags = (
        f"-DTORCH_TARGET_VERSION={TARGET_VERSION}",
        f"-I{root / 'include'}",
        "-Wl,--no-as-needed",
        f"-L{root / 'lib'}",
        *("-ltorch_cpu", "-ltorch", "-lc10"),
    )
    return headers + text, flags


def _load_operators() -> None:
    import torch

    path = operators_library()
    if any(f"{NAMESPACE}::{one.name}" in _registered() for one in signatures()):
        if str(path) not in torch.ops.loaded_libraries:
            raise ResourceError("another library has registered operators of these names", where=str(path))
        return
    load_into_torch(path)


def load_into_torch(path: Path) -> None:
    """Makes torch know the operators of a library.

    Raises:
        ResourceError: it cannot be loaded.
    """
    import torch

    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise ResourceError(f"the library cannot be loaded ({error})", where=str(path)) from error


def _registered() -> set[str]:
    """The names of ours that torch knows; only asked for membership."""
    import torch

    namespace = getattr(torch.ops, NAMESPACE)
    return {f"{NAMESPACE}::{one.name}" for one in signatures() if hasattr(namespace, one.name)}


def _attach(operator: TorchOperator, dtype: str) -> None:
    isa = isa_of("native")
    forwards = _forward_kernels(operator, dtype, isa, this_machine())
    other = kernel_of(backward(operator).program, dtype=dtype, isa=isa, float_rows=True)
    kernels = [one for one, _ in forwards] + [other]
    texts = dict.fromkeys(one.text for one in kernels)
    flags = dict.fromkeys(flag for one in kernels for flag in one.flags)
    symbols = [one.symbol for one, _ in forwards]
    # the definition's own form is tried first
    check = check_of(operator, dtype, symbols[::-1], [other.symbol])
    path = library("".join(texts), tuple(flags), check=check)
    glue = ctypes.CDLL(str(operators_library())).tautomer_torch_attach
    glue.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, *[ctypes.c_int64] * 3)
    type_index = index_of_dtype(dtype)
    attached = [
        glue(index_of(kernel(operator)), type_index, _address(path, one.symbol), *when)
        for one, when in forwards
    ]
    attached.append(glue(index_of(backward(operator)), type_index, _address(path, other.symbol), 0, 0, 1))
    if not all(attached):
        raise InternalError("more algorithms than there is room for", where=operator.name)


def _forward_kernels(
    operator: TorchOperator, dtype: str, isa: Isa, machine: Machine
) -> list[tuple[Kernel, tuple[int, int, int]]]:
    """The algorithms, each with the least bytes and columns and the multiple from which it is used."""
    program = forward(operator).program
    found = []
    for one in thresholds(operator.key, dtype, machine):
        if one.algorithm == "stream":
            other = kernel_of(program, dtype=dtype, isa=isa, stream=True, float_rows=True)
        else:
            other = kernel_for(operator.definition, dtype=dtype, isa=isa, algorithm=one.algorithm)
        found.append((other, (one.least_bytes, one.least_columns, one.multiple)))
    usual = kernel_of(program, dtype=dtype, isa=isa, float_rows=True)
    return [*found, (usual, (0, 0, 1))]


def _address(path: Path, symbol: str) -> Any:
    return ctypes.cast(load(path, symbol), ctypes.c_void_p)  # type: ignore[arg-type]
