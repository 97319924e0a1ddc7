"""Calling a compiled kernel on arrays, its rows split over threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tautomer.errors import CheckFailedError, InternalError
from tautomer.runtime.machine import this_machine

# inputs, outputs, parameters, first row, row behind the last, columns
Function = Callable[[Any, Any, Any, int, int, int], None]


def load(path: Path, symbol: str) -> Function:
    """The function of that name in a library.

    The library stays loaded as long as the process runs, also when its file is removed.

    Raises:
        CheckFailedError: the library cannot be loaded, or holds no such function.
    """
    try:
        # the library runs without the interpreter's lock: ctypes gives it up during a call
        function = getattr(ctypes.CDLL(str(path)), symbol)
    except OSError as error:
        raise CheckFailedError(
            f"the library cannot be loaded ({error})", where=str(path), remedy="run `tautomer cache --clear`"
        ) from error
    except AttributeError as error:
        raise CheckFailedError(
            f"the library holds no function {symbol}", where=str(path), remedy="run `tautomer cache --clear`"
        ) from error
    function.argtypes = (*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
    function.restype = None
    called: Function = function
    return called


def call_rows(
    function: Function,
    inputs: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
    parameters: Sequence[float],
    rows: int,
    columns: int,
    threads: int = 1,
) -> None:
    """Runs a kernel over all rows; the caller's thread does its share.

    Args:
        function: from `load`.
        inputs: contiguous arrays, as the kernel wants them.
        outputs: contiguous arrays that are written.
        parameters: the kernel's numbers.
        rows, columns: the size of the work.
        threads: into how many pieces of equal size the rows are cut, at most.

    Raises:
        InternalError: an array is not contiguous, or an output cannot be written.
    """
    for name, arrays in (("input", inputs), ("output", outputs)):
        for index, array in enumerate(arrays):
            if not array.flags.c_contiguous:
                raise InternalError(f"{name} {index} of a kernel is not contiguous")
    for index, array in enumerate(outputs):
        if not array.flags.writeable:
            raise InternalError(f"output {index} of a kernel cannot be written")
    ins = (ctypes.c_void_p * len(inputs))(*[array.ctypes.data for array in inputs])
    outs = (ctypes.c_void_p * len(outputs))(*[array.ctypes.data for array in outputs])
    numbers = (ctypes.c_double * len(parameters))(*parameters)
    pieces = max(1, min(threads, rows))
    cuts = [rows * index // pieces for index in range(pieces + 1)]
    waiting: list[Future[None]] = []
    try:
        for first, last in pairwise(cuts[1:]):
            waiting.append(_threads().submit(function, ins, outs, numbers, first, last, columns))
        function(ins, outs, numbers, cuts[0], cuts[1], columns)
    finally:
        for piece in waiting:  # nobody may free the arrays before
            piece.result()


def usable_threads() -> int:
    """How many threads run at once in this process."""
    return this_machine().threads


_pool: ThreadPoolExecutor | None = None


def _threads() -> ThreadPoolExecutor:
    """The threads of this process, started when they are first needed."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=usable_threads(), thread_name_prefix="tautomer-kernel")
    return _pool


def _forget_threads() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)  # threads do not survive a fork
