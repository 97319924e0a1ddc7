"""Building, checking and loading the sparse linear maps of torch."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any

from tautomer.codegen.sparse.kernel import PARTS
from tautomer.codegen.storage import DTYPE_OF, DTYPES
from tautomer.codegen.torch.operators import NAMESPACE
from tautomer.codegen.torch.sparse import NAMES, library_text
from tautomer.errors import TautomerError
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.loaded import load
from tautomer.runtime.onnxruntime.kernels import isa_of
from tautomer.runtime.onnxruntime.sparse import kernel_library
from tautomer.runtime.torch.ops_library import load_into_torch, torch_flags

_LOG = logging.getLogger("tautomer.torch")
_ELEMENT_TYPES = {ours: theirs for theirs, ours in DTYPE_OF.items()}


def sparse_operator(*, gated: bool) -> Any:
    """The operator as torch has it; it is attached."""
    import torch

    return getattr(getattr(torch.ops, NAMESPACE), NAMES[gated]).default


@cache
def attach_sparse(dtype: str) -> str:
    """Makes sparse linear maps run on CPU tensors of a type; builds what is not in the cache.

    Args:
        dtype: float32, float16 or bfloat16.

    Returns:
        Why they do not run, or ""; said once on the log `tautomer.torch`, too.
    """
    try:
        place = load_operators()
        path, symbol = kernel_library(_ELEMENT_TYPES[dtype], isa_of("native"))
        functions = [ctypes.cast(load(path, symbol + part), ctypes.c_void_p) for part in PARTS]  # type: ignore[arg-type]
        glue = ctypes.CDLL(str(place)).tautomer_torch_attach_sparse
        glue.argtypes, glue.restype = (ctypes.c_int, ctypes.c_void_p), None
        glue(DTYPES.index(dtype), (ctypes.c_void_p * len(functions))(*functions))
    except TautomerError as error:
        _LOG.warning("torch runs products behind rectifiers of %s by its own operators: %s", dtype, error)
        return str(error)
    return ""


@cache
def load_operators() -> Path:
    """Makes torch know the operators; the library that holds them.

    Raises:
        TautomerError: it cannot be built or loaded.
    """
    path = library(*torch_flags(library_text()))
    load_into_torch(path)
    register_fakes()
    return path


def register_fakes() -> None:
    """Makes torch know the shapes of results."""
    import torch

    torch.library.register_fake(f"{NAMESPACE}::{NAMES[0]}", _fake)
    torch.library.register_fake(
        f"{NAMESPACE}::{NAMES[1]}",
        lambda x, gate, up, up_bias, rows, bias, finite: _fake(gate, rows, bias, finite),
    )


def _fake(h: Any, rows: Any, bias: Any, finite: Any) -> Any:
    """The shape of h with as many last elements as W has columns."""
    return h.new_empty((*h.shape[:-1], rows.shape[1]))
