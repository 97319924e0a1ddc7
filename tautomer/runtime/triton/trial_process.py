"""A process that runs Triton kernels for us, so that what they do to a process they do to that one.

It is asked by lines on its stdin, and says on its stdout how far it comes; see `first_run_child`, which
launches what it is told, and `tuning_child`, which times it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from types import TracebackType
from typing import Any, Self

from tautomer.runtime.child_process import Ended, plain
from tautomer.runtime.triton.grid import Launch
from tautomer.runtime.triton.trial_files import write_job

# what ends a process for reasons that are not its own: memory, a shutdown
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_STAGES = {"compile": "when it is compiled", "run": "when it runs"}


class Rejected(Exception):
    """A kernel did something that it must not do; the message says what."""


class NotTriedError(Exception):
    """A first run did not take place, for a reason that says nothing about the kernel."""


class OtherProcess:
    """A process that is asked, and says how far it comes.

    Args:
        program: that it runs.
        device: as torch names it.
        timeout: seconds until it says its next line.
    """

    def __init__(self, program: Path, device: str, timeout: float) -> None:
        self._program, self._device, self._timeout = program, device, timeout

    def __enter__(self) -> Self:
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
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, _where_we_are()))},
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

    def ask(self, line: str) -> list[str]:
        """What it says to a line, as far as it comes: "done" is the last, or "timeout" where it is silent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        text, stream = b"", self._process.stdout.fileno()
        with DefaultSelector() as selector:
            selector.register(stream, EVENT_READ)
            while not text.endswith(b"done\n") and b"\nwrong: " not in b"\n" + text:
                if not selector.select(self._timeout):
                    return [*text.decode(errors="replace").splitlines(), "timeout"]
                more = os.read(stream, 1 << 12)
                if not more:
                    break
                text += more
        return text.decode(errors="replace").splitlines()

    def why(self, said: list[str]) -> Exception:
        """What the end of what it said says about the kernel that it had come to."""
        wrong = next((line.removeprefix("wrong: ") for line in said if line.startswith("wrong: ")), "")
        if wrong:
            return Rejected(plain(wrong, 300))
        stage = next((word for line in reversed(said) if (word := line.partition(" ")[0]) in _STAGES), "")
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


class TrialProcess(OtherProcess):
    """A process that launches what it is given."""

    def __init__(self, device: str, timeout: float, program: Path) -> None:
        super().__init__(program, device, timeout)
        self._jobs = 0

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
        said = self.ask(str(folder))
        if said[-1:] != ["done"]:
            raise self.why(said)
        job.read_back()


def _where_we_are() -> tuple[str, str | None]:
    """Where the child finds this package, which need not be installed, and what it would find anyway."""
    return str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")
