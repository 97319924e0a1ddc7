"""Building, checking and loading the kernels of attention for torch."""

from __future__ import annotations

import ctypes
import logging
import threading
from functools import cache
from pathlib import Path

from tautomer.codegen.attention.backward import has_backward
from tautomer.codegen.attention.kernel import attention_kernel
from tautomer.codegen.storage import DTYPES
from tautomer.codegen.torch.attention import library_text
from tautomer.errors import TautomerError
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.operators import form_text
from tautomer.runtime import attention_check
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.loaded import load
from tautomer.runtime.onnxruntime.kernels import isa_of
from tautomer.runtime.torch.ops_library import load_into_torch, torch_flags

_LOG = logging.getLogger("tautomer.torch")
_LOCK = threading.RLock()
_FORWARD, _BACKWARD = ("", "_joined", "_scratch"), ("_backward", "_backward_scratch")


def attach(form: AttentionForm) -> str:
    """Makes attention of a form run on CPU tensors of its type; builds what is not in the cache.

    Returns:
        Why it does not run, or ""; said once on the log `tautomer.torch`, too.
    """
    with _LOCK:
        return _attached(form)


@cache
def _attached(form: AttentionForm) -> str:
    try:
        place = loaded()
        kernel = attention_kernel(form, isa_of("native"), gradient=True)
        gradient = has_backward(form)

        def check(path: Path) -> str | None:
            reason = attention_check.check(path, kernel.symbol, form)
            return reason or (attention_check.check_gradient(path, kernel.symbol, form) if gradient else None)

        path = library(kernel.text, kernel.flags, check=check)
        parts = _FORWARD + (_BACKWARD if gradient else ())
        addresses = [ctypes.cast(load(path, kernel.symbol + part), ctypes.c_void_p) for part in parts]  # type: ignore[arg-type]
        addresses += [ctypes.c_void_p(None)] * (len(_FORWARD + _BACKWARD) - len(parts))
        truths = (
            bool(form.mask),
            form.mask == "boolean",
            form.lengths,
            form.alibi,
            form.sink,
            form.function.kind == "exponential",
            form.function.second is None,
        )
        glue = ctypes.CDLL(str(place)).tautomer_torch_attach_attention
        glue.argtypes, glue.restype = (ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p), None
        glue(
            form_text(form).encode(),
            DTYPES.index(form.dtype),
            (ctypes.c_void_p * len(addresses))(*addresses),
            (ctypes.c_bool * len(truths))(*truths),
        )
    except TautomerError as error:
        _LOG.warning("torch runs attention with %s by its own operators: %s", form.score, error)
        return str(error)
    return ""


@cache
def loaded() -> Path:
    """Makes the operators known to torch; the library that holds them.

    Raises:
        TautomerError: it cannot be built or loaded.
    """
    from tautomer.runtime.torch.attention_rules import register

    path = library(*torch_flags(library_text()))
    load_into_torch(path)
    register()
    return path
