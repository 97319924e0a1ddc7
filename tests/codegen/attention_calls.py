"""Calling attention kernels on numpy arrays, as a runtime would, and the oracle beside it."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tautomer.codegen.attention.kernel import AttentionKernel
from tautomer.codegen.attention.numbers import numbers_of, units_of
from tautomer.patterns.attention.form import AttentionForm, attend
from tautomer.patterns.recognition.evaluation import FLOAT64

Arrays = Mapping[str, NDArray[Any]]
TYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_PLACES = {"mask": "mask", "lengths": "lengths", "slopes": "alibi", "sink": "sink"}


def build(kernels: Sequence[AttentionKernel], folder: Path, name: str) -> ctypes.CDLL:
    """Compiles kernels of one instruction set, as one text."""
    source, library = folder / f"{name}.cpp", folder / f"{name}.so"
    source.write_text("".join({kernel.symbol: kernel.text for kernel in kernels}.values()))
    command = ["g++", *kernels[0].flags, "-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized"]
    subprocess.run([*command, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def run(
    library: ctypes.CDLL,
    kernel: AttentionKernel,
    arrays: Arrays,
    *,
    block: int = 12,
    splits: int = 1,
    statistics: NDArray[np.float32] | None = None,
    **numbers: float,
) -> NDArray[Any]:
    """What a kernel makes of q, k, v and what else its form has; y is NaN where nothing is written."""
    q, v = arrays["q"], arrays["v"]
    y = arrays.get("y", np.full((*q.shape[:3], v.shape[-1]), np.nan, q.dtype))
    parameters = numbers_of({**arrays, "y": y}, block=block, splits=splits, **numbers)
    given = (ctypes.c_double * len(parameters))(*parameters)
    names = ["q", "k", "v", *(name for name, part in _PLACES.items() if getattr(kernel.form, part))]
    size = np.zeros(1, np.int64)
    nothing = [ctypes.c_int64(0)] * 3
    sized = (ctypes.c_void_p * 1)(size.ctypes.data)
    getattr(library, f"{kernel.symbol}_scratch")(None, sized, given, *nothing)
    scratch = np.full(int(size[0]), 0xFF, np.uint8)
    units = units_of(q.shape, arrays["k"].shape[1], block, splits)
    parts = np.full((units, block, v.shape[-1] + 34), np.nan, np.float32)
    inputs = (ctypes.c_void_p * len(names))(*[arrays[name].ctypes.data for name in names])
    made = (y, statistics, scratch, parts)
    outputs = (ctypes.c_void_p * 4)(*[None if array is None else array.ctypes.data for array in made])

    def call(name: str, last: int) -> None:
        if last:
            middle = last // 2  # the work is done in any order
            for first, end in ((middle, last), (0, middle)):
                pieces = (ctypes.c_int64(first), ctypes.c_int64(end), ctypes.c_int64(0))
                getattr(library, name)(inputs, outputs, given, *pieces)

    call(kernel.symbol, units)
    if splits > 1:
        call(f"{kernel.symbol}_joined", units // splits)
    return y


def exact(form: AttentionForm, arrays: Arrays, **numbers: float) -> NDArray[np.float64]:
    """The oracle: the formula in float64."""
    wide = {
        name: array if array.dtype in (bool, np.int64) else array.astype(np.float64)
        for name, array in arrays.items()
    }
    return np.asarray(attend(FLOAT64, form, **wide, **numbers))  # type: ignore[arg-type]
