"""Building, checking and loading the gates of torch."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from typing import Any

from tautomer.codegen.gate_kernel import gate_kernel
from tautomer.codegen.torch.gate import NAME, library_text
from tautomer.codegen.torch.operators import NAMESPACE
from tautomer.errors import TautomerError
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.loaded import load
from tautomer.runtime.onnxruntime import gate as ort_gate
from tautomer.runtime.onnxruntime.kernels import isa_of
from tautomer.runtime.torch.ops_library import load_into_torch, torch_flags

_LOG = logging.getLogger("tautomer.torch")


def gate_operator() -> Any:
    """The operator as torch has it; it is attached."""
    import torch

    return getattr(getattr(torch.ops, NAMESPACE), NAME).default


@cache
def attach_gate() -> str:
    """Makes gates run on CPU tensors; builds what is not in the cache.

    Returns:
        Why they do not run, or ""; said once on the log `tautomer.torch`, too.
    """
    import torch

    try:
        kernel = gate_kernel(isa_of("native"))
        path = library(
            kernel.text, kernel.flags, check=lambda built: ort_gate.check(built, kernel.symbol, "FLOAT")
        )
        place = library(*torch_flags(library_text()))
        load_into_torch(place)
        torch.library.register_fake(f"{NAMESPACE}::{NAME}", _fake)
        glue = ctypes.CDLL(str(place)).tautomer_torch_attach_gate
        glue.argtypes, glue.restype = (ctypes.c_void_p,), None
        glue(ctypes.cast(load(path, kernel.symbol), ctypes.c_void_p))  # type: ignore[arg-type]
    except TautomerError as error:
        _LOG.warning("torch runs gates of experts by its own operators: %s", error)
        return str(error)
    return ""


def _fake(x: Any, k: int, form: int) -> tuple[Any, Any]:
    """k along the last axis."""
    import torch

    sizes = (*x.shape[:-1], k)
    return x.new_empty(sizes), x.new_empty(sizes, dtype=torch.int64)
