"""A session of onnxruntime with our kernels in it, where the model has use for them."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tautomer.errors import BadModelError, InputError, MissingToolError
from tautomer.graph.naming import printable
from tautomer.graph.reader import read_model
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.runtime.onnxruntime.kernels import Unavailable, library_for

_LOG = logging.getLogger("tautomer.session")
_CPU = "CPUExecutionProvider"


def session(
    path: str | os.PathLike[str],
    *,
    isa: str = "native",
    providers: Sequence[Any] = (_CPU,),
    config: Mapping[str, str] | None = None,
    **options: Any,
) -> Any:
    """An onnxruntime.InferenceSession of a model, with a kernel library when it has nodes of our domain.

    Without a compiler, on another device, or where a node does not fit, those nodes run their function
    bodies: the same results, slower. One line on the log `tautomer.session` says why, once for each model.

        session = tautomer.session("fast.onnx", intra_op_num_threads=4)

    Args:
        path: the model's file.
        isa: the kernels' instruction set: native, avx512, avx2 or portable.
        providers: as for InferenceSession. Kernels are for the CPU: with other devices they are left out.
        config: session configuration entries.
        options: attributes of onnxruntime.SessionOptions.

    Raises:
        MissingToolError: onnxruntime is not installed.
        BadModelError: the file is damaged, hostile or not ONNX, or onnxruntime does not load it.
        InputError: no such option or instruction set.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingToolError(
            "onnxruntime is needed to run a model", remedy="pip install 'tautomer[ort]'"
        ) from error
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(
            f"a session is made of a file, and this is a {type(path).__name__}",
            remedy="save the model, and give its path",
        )
    model = read_model(path)
    library: Path | Unavailable | None = None
    if DOMAIN in model.opset_imports:
        on_cpu = all((one if isinstance(one, str) else one[0]) == _CPU for one in providers)
        library = library_for(model, isa) if on_cpu else Unavailable("they are for the CPU")
    del model

    def load(kernels: Path | None) -> Any:
        wanted = _options(onnxruntime, config or {}, options)
        if kernels is not None:
            wanted.register_custom_ops_library(str(kernels))
        return onnxruntime.InferenceSession(os.fspath(path), wanted, providers=list(providers))

    if isinstance(library, Path):
        try:
            return load(library)
        except InputError:
            raise
        except Exception as error:  # onnxruntime's own classes derive from nothing narrower
            library = Unavailable(f"onnxruntime refuses them: {_first_line(error)}")
    if library is not None:
        _say_once(printable(os.fspath(path), 400), library.reason)
    try:
        return load(None)
    except InputError:
        raise
    except Exception as error:
        raise BadModelError(
            f"onnxruntime does not load the model: {_first_line(error)}", where=Path(path).name
        ) from error


@functools.lru_cache(maxsize=256)
def _say_once(path: str, reason: str) -> None:
    _LOG.warning("%s runs without native kernels: %s", path, reason.removeprefix("native kernels: "))


def _options(onnxruntime: Any, config: Mapping[str, str], options: Mapping[str, Any]) -> Any:
    """Fresh ones: onnxruntime takes a library once per SessionOptions."""
    wanted = onnxruntime.SessionOptions()
    for name, value in options.items():
        if not hasattr(wanted, name) or callable(getattr(wanted, name)):
            raise InputError(f"onnxruntime.SessionOptions has no attribute '{name}'")
        try:
            setattr(wanted, name, value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{name} cannot be {value!r}") from error
    for key, entry in config.items():
        wanted.add_session_config_entry(key, entry)
    return wanted


def _first_line(error: Exception) -> str:
    return printable(str(error).strip().split("\n")[0], 300)
