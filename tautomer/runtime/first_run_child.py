"""The child of a first run: loads a library, calls a kernel, writes what it made.

Run as `python -I -S first_run_child.py FOLDER`, with the standard library only: it starts in a few
milliseconds and needs nothing that might break first. The last line that it prints says how far it came.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_NONE, _READ = 0, 1  # PROT_NONE, PROT_READ
_CANARY = b"\xa5"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Guarded:
    """Memory that ends where a page begins that must not be touched, with another such page in front.

    Args:
        content: what it holds; its end decides the alignment.
        writable: whether the kernel may write it.
    """

    def __init__(self, content: bytes, *, writable: bool) -> None:
        page = mmap.PAGESIZE
        room = -(-len(content) // page) * page
        self._area = mmap.mmap(-1, room + 2 * page)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._area))
        self._begin, self._end = page + room - len(content), page + room
        self._area[page : self._end] = _CANARY * (room - len(content)) + content
        self._protect(0, page, _NONE)
        self._protect(self._end, page, _NONE)
        if room and not writable:
            self._protect(page, room, _READ)

    @property
    def address(self) -> int:
        """Where the content begins."""
        return self._base + self._begin

    @property
    def content(self) -> bytes:
        """What it holds now."""
        return self._area[self._begin : self._end]

    @property
    def intact(self) -> bool:
        """Whether nothing was written in front of the content."""
        before = self._area[mmap.PAGESIZE : self._begin]
        return before == _CANARY * len(before)

    def _protect(self, start: int, size: int, protection: int) -> None:
        if _libc.mprotect(self._base + start, size, protection):
            raise OSError(ctypes.get_errno(), "mprotect")


def main(folder: Path) -> int:
    """Runs the job that lies in the folder."""
    job: dict[str, Any] = json.loads((folder / "job.json").read_text())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is an answer here and leaves no file
    signal.alarm(job["seconds"])  # ends us when the process that waits for us is gone
    inputs = [
        Guarded((folder / f"input{index}").read_bytes(), writable=False) for index in range(job["inputs"])
    ]
    outputs = [
        Guarded((folder / f"output{index}").read_bytes(), writable=True) for index in range(job["outputs"])
    ]
    _say("load")
    try:
        library = ctypes.CDLL(job["library"])
        functions = [(getattr(library, symbol), pieces) for symbol, pieces in job["calls"]]
    except OSError as error:
        return _wrong(f"its library cannot be loaded ({error})")
    except AttributeError:
        return _wrong("its library does not hold its function")
    parameters = [float.fromhex(one) for one in job["parameters"]]
    _say("run")
    for function, (first, last) in ((function, piece) for function, pieces in functions for piece in pieces):
        function.argtypes = (*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
        function.restype = None
        function(
            (ctypes.c_void_p * len(inputs))(*[one.address for one in inputs]),
            (ctypes.c_void_p * len(outputs))(*[one.address for one in outputs]),
            (ctypes.c_double * len(parameters))(*parameters),
            first,
            last,
            job["columns"],
        )
    for index, output in enumerate(outputs):
        if not output.intact:
            return _wrong(f"it writes in front of output {index}")
        (folder / f"output{index}").write_bytes(output.content)
    _say("done")
    return 0


def _say(stage: str) -> None:
    print(stage, flush=True)


def _wrong(reason: str) -> int:
    print(f"wrong: {reason}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
