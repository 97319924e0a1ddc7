"""The first run of Triton kernels on a device, in a process of its own: a crash or hang there costs a kernel.

    reason = first_run("softmax of bfloat16", key, device, compute)

`compute` calls the kernels as usual, on tensors of the CPU. Each launch goes to a child, which copies what it
takes to the device, launches it there and gives back what it wrote. So what is tried is what runs later, and
this process touches the device only when kernels are known to leave it alive. The answer is kept in the cache
folder, by key, device and the versions of torch and triton.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tautomer.errors import TautomerError
from tautomer.runtime import cache_folder, own_file
from tautomer.runtime.cache_folder import UnusableFolderError
from tautomer.runtime.child_process import Ended, plain
from tautomer.runtime.triton.grid import Launch, instead
from tautomer.runtime.triton.trial_files import write_job

if TYPE_CHECKING:
    import torch

SWITCH = "TAUTOMER_FIRST_RUN"
"""Set to 0, kernels for GPUs are used untried: where a second process cannot use the device."""

TIMEOUT = 180.0  # seconds of a launch: the child imports torch, and compiles
FORMAT = 1
_LOG = logging.getLogger("tautomer.torch")
_CHILD = Path(__file__).with_name("first_run_child.py")
_LOCK = threading.RLock()
_KNOWN: dict[str, str] = {}
# what ends a process for reasons that are not its own: memory, a shutdown
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_STAGES = {"compile": "when it is compiled", "run": "when it runs"}

Pair = tuple["torch.Tensor", "torch.Tensor"]
Compute = Callable[[], Sequence[Pair]]


class Rejected(Exception):
    """A kernel did something that it must not do; the message says what."""


class NotTriedError(Exception):
    """A first run did not take place, for a reason that says nothing about the kernel."""


def first_run(
    what: str,
    key: str,
    device: str,
    compute: Compute,
    *,
    off: float,
    timeout: float = TIMEOUT,
    child: Path = _CHILD,
) -> str:
    """Why kernels must not be used on a device, or ""; said once, on the log `tautomer.torch`, too.

    Args:
        what: they compute, for people.
        key: what their code and sizes depend on, with the device's fingerprint.
        device: as torch names it.
        compute: runs them on tensors of the CPU, and gives each result with what it should be.
        off: how far a result may be off, relative to its largest element.
        timeout: seconds that a launch may take.
        child: the program of the child.
    """
    if os.environ.get(SWITCH) == "0":
        return ""
    with _LOCK:
        name = _name_of(key)
        if name not in _KNOWN:
            reason = _kept(name)
            if reason is None:
                reason = _tried(name, device, compute, off, timeout, child)
            _KNOWN[name] = reason
            if reason:
                _LOG.warning("%s runs by torch's own operators: %s", what, reason)
        return _KNOWN[name]


def _tried(name: str, device: str, compute: Compute, off: float, timeout: float, child: Path) -> str:
    """Runs them; what did not take place is tried again by the next process."""
    try:
        with _Child(device, timeout, child) as other, instead(other.launch):
            pairs = compute()
        reason = next(filter(None, (_differs(*pair, off) for pair in pairs)), "")
    except Rejected as error:
        reason = f"in its first run, {error}"
    except (NotTriedError, OSError, TautomerError) as error:
        return f"its first run did not take place: {error}; {SWITCH}=0 does without"
    _keep(name, reason)
    return reason


def _differs(found: torch.Tensor, expected: torch.Tensor, off: float) -> str:
    """Why a result is wrong, or ""."""
    wide = found.double()
    if wide.shape != expected.shape or not bool((wide.isnan() == expected.isnan()).all()):
        return "in its first run it gave NaN where it should not"
    if not wide.numel():
        return ""
    error = float((wide - expected).nan_to_num(0.0).abs().max())
    allowed = off * float(expected.nan_to_num(0.0).abs().max())
    return "" if error <= allowed else f"in its first run it was off by {error:.3g}, at most {allowed:.3g}"


class _Child:
    """A process that launches what it is given.

    Args:
        device: as torch names it.
        timeout: seconds of a launch.
        program: that it runs.
    """

    def __init__(self, device: str, timeout: float, program: Path) -> None:
        self._device, self._timeout, self._program = device, timeout, program
        self._jobs = 0

    def __enter__(self) -> _Child:
        self._folder = tempfile.TemporaryDirectory(prefix="tautomer-first-run-")
        self._errors = Path(self._folder.name) / "stderr"
        # -P: the modules beside the program are not to be found by their names
        command = [sys.executable or "python3", "-P", str(self._program), self._device]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._folder.name,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._folder.cleanup()

    def launch(self, kernel: Launch, arguments: Sequence[Any]) -> None:
        """Launches a kernel in the child; see `grid.Launcher`.

        Raises:
            Rejected: it crashed, did not end, or wrote where it must not.
            NotTriedError: the child could not launch it.
        """
        self._jobs += 1
        folder = Path(self._folder.name) / str(self._jobs)
        folder.mkdir()
        job = write_job(folder, kernel, arguments)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{folder}\n".encode())
            self._process.stdin.flush()
        said = self._lines()
        if said[-1:] != ["done"]:
            raise self._why(said)
        job.read_back()

    def _lines(self) -> list[str]:
        """What the child says of one job, as far as it comes."""
        stream = self._process.stdout
        assert stream is not None
        end, text = time.monotonic() + self._timeout, b""
        with DefaultSelector() as selector:
            selector.register(stream, EVENT_READ)
            while not text.endswith(b"done\n") and b"wrong: " not in text:
                if not selector.select(max(0.0, end - time.monotonic())):
                    return [*text.decode(errors="replace").splitlines(), "timeout"]
                more = os.read(stream.fileno(), 1 << 12)
                if not more:
                    break
                text += more
        return text.decode(errors="replace").splitlines()

    def _why(self, said: list[str]) -> Exception:
        """What the end of a job says about the kernel."""
        wrong = next((line.removeprefix("wrong: ") for line in said if line.startswith("wrong: ")), "")
        if wrong:
            return Rejected(plain(wrong, 300))
        stage = next((line for line in reversed(said) if line in _STAGES), "")
        if said[-1:] == ["timeout"]:
            if stage:
                return Rejected(f"it does not end within {self._timeout:g} s {_STAGES[stage]}")
            return NotTriedError(f"another process has not begun within {self._timeout:g} s")
        ended = Ended(self._process.wait(), "", self._errors.read_text(errors="replace")[-4096:])
        last = plain((ended.errors.strip().splitlines() or [""])[-1], 200)
        if stage and ended.signal and ended.signal not in _FROM_OUTSIDE:
            return Rejected(f"it crashes {_STAGES[stage]} ({ended.signal})")
        if stage and ended.code == 1:
            return Rejected(f"it fails {_STAGES[stage]} ({last})")
        return NotTriedError(f"another process ended ({ended.signal or f'exit code {ended.code}'}) {last}")


def _name_of(key: str) -> str:
    import torch
    import triton

    told = json.dumps([FORMAT, torch.__version__, triton.__version__, key])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _kept(name: str) -> str | None:
    """What an earlier process found, or None."""
    try:
        document = own_file.read(_place(name))
        reason = document["reason"]
        return reason if document["format"] == FORMAT and isinstance(reason, str) else None
    except (OSError, UnusableFolderError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _keep(name: str, reason: str) -> None:
    with suppress(OSError, UnusableFolderError):
        own_file.write(_place(name), {"format": FORMAT, "reason": reason})


def _place(name: str) -> Path:
    return cache_folder.location().with_name("first-runs") / f"{name}.json"
