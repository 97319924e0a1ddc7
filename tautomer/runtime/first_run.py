"""The first run of a kernel, in a process of its own: a crash or hang there costs a kernel, no more."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tautomer.errors import InternalError
from tautomer.runtime.child_process import Ended, check_space, plain, run_alone

TIMEOUT = 20.0
_CHILD = Path(__file__).with_name("first_run_child.py")
_FILL = b"\xff"  # NaN in every floating-point type: what the kernel does not write shows
# what ends a process for reasons that are not its own: memory, a shutdown
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_STAGES = {
    "load": "while its library is loaded",
    "run": "when it runs",
    "done": "when the process ends that ran it",
}

Compare = Callable[[list[NDArray[Any]]], str | None]


@dataclass(frozen=True)
class Trial:
    """One run of a kernel.

    Attributes:
        symbol: the function's name in the library.
        inputs: the arrays that it reads.
        outputs: shape and type of those that it writes.
        parameters: its numbers.
        rows, columns: the size of the work.
        may_be_nan: NaN in an output is left to the comparison to judge.
        then: another function, and its rows, that is run on the same arrays afterwards.
    """

    symbol: str
    inputs: Sequence[NDArray[Any]]
    outputs: Sequence[tuple[tuple[int, ...], DTypeLike]]
    parameters: Sequence[float]
    rows: int
    columns: int
    may_be_nan: bool = False
    then: tuple[str, int] | None = None


def first_run(library: Path, trial: Trial, compare: Compare, *, timeout: float = TIMEOUT) -> str | None:
    """Runs a kernel where it can do no harm, and says why it must not be used, or None.

    In the child every array ends at a page that must not be touched and starts at an address that is aligned
    to one element only; inputs cannot be written; the rows are done in two calls. So a kernel that reads or
    writes past an end, wants more alignment than arrays have, or cannot start in the middle is found here.

    Args:
        library: the library; what the child needs is written beside it, and removed.
        trial: what to run.
        compare: is given the outputs, and says what is wrong with them or None.
        timeout: seconds after which the child is stopped.

    Raises:
        OSError: the child cannot be run, for a reason that says nothing about the kernel.
    """
    with tempfile.TemporaryDirectory(prefix="first-run-", dir=library.parent) as scratch:
        folder = Path(scratch)
        types = [np.dtype(kind) for _, kind in trial.outputs]
        sizes = [
            int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            for (shape, _), kind in zip(trial.outputs, types, strict=True)
        ]
        for index, array in enumerate(trial.inputs):
            (folder / f"input{index}").write_bytes(np.ascontiguousarray(array).tobytes())
        for index, size in enumerate(sizes):
            (folder / f"output{index}").write_bytes(_FILL * size)
        job = {
            "library": str(library.absolute()),
            "calls": [
                [symbol, _pieces(rows)]
                for symbol, rows in filter(None, ((trial.symbol, trial.rows), trial.then))
            ],
            "inputs": len(trial.inputs),
            "outputs": len(trial.outputs),
            # as hexadecimal text: JSON has no infinity
            "parameters": [float(one).hex() for one in trial.parameters],
            "columns": trial.columns,
            "seconds": int(timeout) + 10,
        }
        (folder / "job.json").write_text(json.dumps(job))
        # -I and -S: nothing of the user's, and no site-packages to look through
        command = [sys.executable or "python3", "-I", "-S", str(_CHILD), scratch]
        ended = run_alone(command, folder=folder, timeout=timeout)
        reason = _how_it_ended(ended, timeout, folder)
        if reason:
            return reason
        outputs: list[NDArray[Any]] = []
        for index, ((shape, _), kind, size) in enumerate(zip(trial.outputs, types, sizes, strict=True)):
            content = bytearray((folder / f"output{index}").read_bytes())
            if len(content) != size:
                raise InternalError(f"the first run of a kernel gave {len(content)} bytes for {size}")
            outputs.append(np.frombuffer(content, dtype=kind).reshape(shape))
    if not trial.may_be_nan:
        for index, output in enumerate(outputs):
            count = int(np.count_nonzero(output != output))
            if count:
                return f"it leaves NaN in {count} of {output.size} elements of output {index}"
    return compare(outputs)


def _pieces(rows: int) -> list[list[int]]:
    """The first rows last: what they write behind their end is then not written over."""
    middle = rows // 2
    return [[middle, rows], [0, middle]] if middle else [[0, rows]]


def _how_it_ended(ended: Ended, timeout: float, folder: Path) -> str | None:
    """What the child's end says about the kernel."""
    stages = [line for line in ended.out.splitlines() if line in _STAGES]
    stage = stages[-1] if stages else ""
    if ended.code == 0 and stage == "done":
        return None
    if stage in _STAGES and ended.code is None:
        return f"it does not end within {timeout:g} s"
    if stage in _STAGES and ended.signal and ended.signal not in _FROM_OUTSIDE:
        return f"it crashes {_STAGES[stage]} ({ended.signal})"
    told = ended.out.rpartition("wrong: ")[2].strip() if "wrong: " in ended.out else ""
    if stage in _STAGES and ended.code == 1 and told:
        return plain(told, 300)
    check_space(folder, ended.errors)
    why = ended.signal or f"exit code {ended.code}"
    said = (ended.errors.strip().splitlines() or [""])[-1][:200]
    message = f"the first run of a kernel did not take place ({why}) {said}".strip()
    raise OSError(errno.ECHILD, message, os.fspath(_CHILD))
