"""Measures which configuration of a Triton kernel is the fastest on the GPU at hand, by the columns of a row.

A kernel runs on tensors that its last cache does not hold, by every candidate, in turns; the usual
configuration is given up only for one that is clearly faster. All of it happens in another process: a
candidate that crashes or does not end costs itself, and the rest go on in a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tautomer.codegen.torch.operators import OPERATORS, backward, forward, operator_of
from tautomer.codegen.triton.configuration import Configuration, candidates
from tautomer.codegen.triton.kernel import EXCHANGING
from tautomer.errors import ResourceError
from tautomer.runtime.triton.device import device_here
from tautomer.runtime.triton.trial_process import NotTriedError, OtherProcess
from tautomer.runtime.triton.tuned import key_of
from tautomer.runtime.triton.tuning_child import Job

if TYPE_CHECKING:
    import torch

COLUMNS = (768, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
TIMEOUT = (
    60.0  # seconds of a candidate: one is compiled in a few, and the child imports torch before the first
)
_WINS = 0.97  # of the usual configuration's time, at most: less is noise
_CHILD = Path(__file__).with_name("tuning_child.py")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """One kernel at one size.

    Attributes:
        name: the operator, and "backward" in it for its gradient.
        columns: of a row.
        key: under which the choice is kept.
        chosen: the fastest.
        ratio: its time in times of the usual configuration's.
    """

    name: str
    columns: int
    key: str
    chosen: Configuration
    ratio: float


def tune(
    names: Iterable[str] = (),
    columns: Sequence[int] = COLUMNS,
    *,
    dtype: str = "bfloat16",
    index: int = 0,
    report: Report = print,
) -> list[Measured]:
    """Measures operators, forward and backward, on a GPU.

    Args:
        names: operators without version; all if there are none.
        columns: the lengths of rows.
        dtype: of the tensors.
        index: the device, for torch.
        report: is told what is measured, and which candidates are out.

    Raises:
        ResourceError: another process cannot use the device.
    """
    import torch

    operators = [operator_of(name) for name in names] or OPERATORS
    device, found = device_here(index), []
    with Timer(f"cuda:{index}", report) as timer:
        for operator in operators:
            for part, signature in (("forward", forward(operator)), ("backward", backward(operator))):
                program = signature.program
                for size in columns if program.rows else columns[:1]:
                    kind: torch.dtype = getattr(torch, dtype)
                    ways = dict(enumerate(candidates(program, size, kind.itemsize)))
                    if device.kind != "cuda":  # the order in which programs begin is known of NVIDIA's only
                        ways = {number: one for number, one in ways.items() if one.form not in EXCHANGING}
                    rows = max(16, 4 * device.last_cache // (size * kind.itemsize))
                    report(f"{signature.name}, {size} columns")
                    times = timer.times(Job(operator.name, part, dtype, rows, size, ways)) if ways else {}
                    if 0 in times:
                        best = _best(times)
                        key = key_of(program, size, kind.itemsize)
                        found.append(Measured(signature.name, size, key, ways[best], times[best] / times[0]))
    return found


def _best(times: dict[int, float]) -> int:
    """The fastest if it is clearly faster than the first, or the first."""
    best = min(times, key=times.__getitem__)
    return best if times[best] <= _WINS * times[0] else 0


class Timer:
    """Times configurations in another process, which is replaced when one of them ends it.

    Args:
        device: as torch names it.
        report: is told which candidates are out, and why.
        timeout: seconds of a candidate.
        child: the program of the process.
    """

    def __init__(
        self, device: str, report: Report, *, timeout: float = TIMEOUT, child: Path = _CHILD
    ) -> None:
        self._device, self._report, self._timeout, self._child = device, report, timeout, child
        self._open = ExitStack()
        self._process: OtherProcess | None = None

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def times(self, job: Job) -> dict[int, float]:
        """Seconds of a call by the number of each candidate that does not fail; without the first, none.

        Raises:
            ResourceError: the process does not come to any candidate.
        """
        while 0 in job.candidates:
            process = self._begun()
            said = process.ask(job.line())
            out = dict(line.removeprefix("out ").split(" ", 1) for line in said if line.startswith("out "))
            for number, why in out.items():
                self._report(f"{job.candidates[int(number)]} is out: {why}")
            if said[-1:] == ["done"]:
                told = json.loads(said[-2].removeprefix("times "))
                return {int(number): seconds for number, seconds in told.items()}
            reason = process.why(said)
            self._end()
            reached = [line.split()[1] for line in said if line.startswith(("compile ", "run "))]
            if not reached or isinstance(reason, NotTriedError):
                raise ResourceError(
                    f"another process cannot measure on the GPU: {reason}",
                    remedy="see that the GPU is free and that its compute mode lets several processes use it",
                )
            self._report(f"{job.candidates[int(reached[-1])]} is out: {reason}")
            gone = {*map(int, out), int(reached[-1])}
            rest = {number: one for number, one in job.candidates.items() if number not in gone}
            job = replace(job, candidates=rest)
        return {}

    def _begun(self) -> OtherProcess:
        if self._process is None:
            other = OtherProcess(self._child, self._device, self._timeout)
            self._process = self._open.enter_context(other)
        return self._process

    def _end(self) -> None:
        self._open.close()
        self._process = None
