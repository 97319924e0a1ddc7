"""How fast this machine's memory and arithmetic are: measured once, then read from the cache folder."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tautomer.errors import MissingToolError, TautomerError
from tautomer.machine import MIB, Bandwidth, Machine
from tautomer.runtime import cache_folder, compiler, own_file
from tautomer.runtime.cache_folder import UnusableFolderError
from tautomer.runtime.child_process import run_alone

FORMAT = 1
_SECONDS = 0.15  # for each number
_TIMEOUT = 20.0
_BELIEVED = (1e7, 1e15)  # per second
# oom_score_adj: where memory is short, this process is to end and not the one that started it
_CHILD = """
import contextlib, ctypes, json, sys
with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
    file.write("1000")
numbers = (ctypes.c_double * 4)()
measure = ctypes.CDLL(sys.argv[1]).tautomer_measure
measure(ctypes.c_size_t(int(sys.argv[2])), ctypes.c_double(float(sys.argv[3])), numbers)
print(json.dumps(list(numbers)))
"""


def measured(machine: Machine, *, again: bool = False) -> Machine:
    """The machine with what it reaches, from the cache folder if it is there, else measured in two seconds.

    Without a compiler only copying is measured, by numpy; as soon as there is one, the rest is, too. What a
    measurement does not reach stays None.

    Args:
        machine: from `this_machine`; one that is only described stays as it is.
        again: measure also when it was done before.
    """
    if not machine.fingerprint:
        return machine
    known = recalled(machine)
    complete = known.bandwidth is not None and known.bandwidth.read is not None
    if not again and known.bandwidth and (complete or not _has_compiler()):
        return known
    new = _by_program(machine)
    if new is None:
        if complete:  # from a time when there was a compiler
            return known
        new = _by_numpy(machine)
    if new.bandwidth:
        try:
            _keep(new)
        except (OSError, UnusableFolderError) as error:
            cache_folder.say_once(f"what was measured on this machine is not kept: {error}")
    return new


def recalled(machine: Machine) -> Machine:
    """The machine with what was measured earlier, or as it is."""
    try:
        document = own_file.read(_place(machine))
        if document["format"] != FORMAT or document["fingerprint"] != machine.fingerprint:
            return machine
        return _with(machine, [document[key] for key in ("read", "copy", "stream", "peak_flops")])
    except (OSError, UnusableFolderError, ValueError, KeyError, TypeError, RecursionError):
        return machine


def _with(machine: Machine, numbers: list[Any]) -> Machine:
    """The machine with these: read, copied, streamed, calculated; those that cannot be true are left out."""
    read, copy, stream, flops = (
        float(one) if isinstance(one, int | float) and _BELIEVED[0] < one < _BELIEVED[1] else None
        for one in numbers
    )
    bandwidth = Bandwidth(read, copy, stream) if copy is not None else None
    return replace(machine, bandwidth=bandwidth, peak_flops=flops)


def _by_program(machine: Machine) -> Machine | None:
    """Measured by a program of ours, in a process of its own; None when that fails."""
    from tautomer.runtime.kernel_cache import library
    from tautomer.runtime.machine_program import program

    text, flags = program(machine.isas[0])
    try:
        path = library(text, flags)
        with tempfile.TemporaryDirectory(prefix="tautomer-machine-") as folder:
            # -I and -S: nothing of the user's, and no site-packages to look through
            command = [sys.executable or "python3", "-I", "-S", "-c", _CHILD]
            arguments = [str(path), str(_size(machine)), str(_SECONDS)]
            ended = run_alone([*command, *arguments], folder=Path(folder), timeout=_TIMEOUT)
        numbers = json.loads(ended.out) if ended.code == 0 else []
    except (TautomerError, OSError, ValueError):
        return None
    found = _with(machine, numbers) if len(numbers) == 4 else machine
    return found if found.bandwidth else None


def _by_numpy(machine: Machine) -> Machine:
    """What numpy reaches: copying, and as the C library does it, which may go around the caches."""
    try:
        import numpy as np

        source = np.ones(_size(machine) // 4, np.float32)
        target = np.zeros_like(source)
    except (ImportError, MemoryError):
        return machine
    least, end = float("inf"), time.monotonic() + 2 * _SECONDS
    while least == float("inf") or time.monotonic() < end:
        before = time.thread_time()
        np.copyto(target, source)
        least = min(least, time.thread_time() - before)
    return _with(machine, [None, 2 * source.nbytes / max(least, 1e-9), None, None])


def _size(machine: Machine) -> int:
    """Bytes of each of the two arrays: what stays in the last cache must not matter."""
    return min(max(4 * machine.l3, 64 * MIB), 256 * MIB)


def _has_compiler() -> bool:
    try:
        compiler.find()
    except MissingToolError:
        return False
    return True


def _place(machine: Machine) -> Path:
    return cache_folder.location().with_name("machines") / f"{machine.fingerprint}.json"


def _keep(machine: Machine) -> None:
    """Writes what was measured."""
    document = {"format": FORMAT, "fingerprint": machine.fingerprint, "name": machine.name}
    document |= asdict(machine.bandwidth) if machine.bandwidth else {}
    own_file.write(_place(machine), {**document, "peak_flops": machine.peak_flops})
