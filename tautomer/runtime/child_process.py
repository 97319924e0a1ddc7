"""Programs that may hang or print without end, run so that neither reaches us.

Each runs in a process group of its own, so that what it started ends with it, writes into files that nobody
else sees, and is killed when its time is up or when we are interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_READ = 1 << 16
_LEAST_SPACE = 1 << 20


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        code: the exit code, negative for a signal, None when it was stopped for taking too long.
        out: the beginning of what it wrote to stdout.
        errors: the beginning of what it wrote to stderr.
    """

    code: int | None
    out: str
    errors: str

    @property
    def signal(self) -> str:
        """The name of the signal that ended it, or nothing."""
        if self.code is None or self.code >= 0:
            return ""
        try:
            return signal.Signals(-self.code).name
        except ValueError:  # a real-time signal
            return f"signal {-self.code}"


def run_alone(
    command: Sequence[str], *, folder: Path, timeout: float, environment: Mapping[str, str] | None = None
) -> Ended:
    """Runs a program without a shell, in that folder, for at most so many seconds.

    Raises:
        OSError: it cannot be started, or the folder takes no files.
    """
    with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        code: int | None
        try:
            code = _wait(process, timeout)
        except subprocess.TimeoutExpired:
            code = None
            _kill(process)
        except BaseException:  # an interrupt: the program is in another group and did not see it
            _kill(process)
            raise
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read(_MOST_READ).decode(errors="replace"))
        return Ended(code, *texts)


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int:
    """The exit code, as soon as there is one; Popen.wait alone looks only every 50 ms."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not everywhere allowed
            descriptor = os.pidfd_open(process.pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                if ended.poll(timeout * 1000):
                    return process.wait()
                raise subprocess.TimeoutExpired(process.args, timeout)
            finally:
                os.close(descriptor)
    return process.wait(timeout)


def check_space(folder: Path, errors: str) -> None:
    """Called when a program failed: raises when the disk is the reason.

    Programs say so, or are ended by a signal before they can.

    Raises:
        OSError: the disk is full.
    """
    about = os.statvfs(folder)
    said = "No space left on device" in errors or "quota exceeded" in errors
    if said or about.f_bavail * about.f_frsize < _LEAST_SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def plain(text: str, longest: int) -> str:
    """The text as one line that no terminal acts upon; programs and file names may hold anything."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole group; the number is the group's as long as its leader was not waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
