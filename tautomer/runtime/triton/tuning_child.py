"""The child of a tuning: times configurations of a kernel, as it is told on stdin, one job a line.

Run as `python -P tuning_child.py DEVICE`. It says which configuration it comes to, by its number, so that who
reads it knows which one has not let it go on:

    compile 3
    run 3
    out 3 {reason}       a configuration that spills, fails, or gives something else than the first
    times {"0": 1.5e-05}
    done

What registers do not hold is compiled and left out without a run; the first configuration always runs.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tautomer.codegen.torch.operators import Signature, backward, forward, operator_of
from tautomer.codegen.triton.configuration import Configuration
from tautomer.runtime.child_process import plain
from tautomer.runtime.triton.grid import Launch, instead, loaded
from tautomer.runtime.triton.launch import run

if TYPE_CHECKING:
    import torch

_PARTS = {"forward": forward, "backward": backward}
_ROUNDS, _CALLS = 7, 10
_OFF = 2e-2  # of the norm: rounding to bfloat16 in another order


@dataclass(frozen=True)
class Job:
    """Configurations of a kernel at one size.

    Attributes:
        operator: of torch, without version.
        part: "forward" or "backward".
        dtype: of the tensors.
        rows, columns: of x.
        candidates: by their numbers; the first is the usual one.
    """

    operator: str
    part: str
    dtype: str
    rows: int
    columns: int
    candidates: dict[int, Configuration]

    @property
    def signature(self) -> Signature:
        """What is computed."""
        return _PARTS[self.part](operator_of(self.operator))

    def line(self) -> str:
        """As a line that `job_of` reads."""
        return json.dumps(asdict(self))


def job_of(line: str) -> Job:
    """The job that a line tells."""
    told = json.loads(line)
    candidates = {int(number): Configuration(**one) for number, one in told.pop("candidates").items()}
    return Job(**told, candidates=candidates)


def main(device: str) -> int:
    """Times the jobs that are asked for, until there is no more."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # what triton launches on
    for line in sys.stdin:
        _say(f"times {json.dumps(times(job_of(line), torch.device(device)))}")
        _say("done")
    return 0


def times(job: Job, device: torch.device) -> dict[int, float]:
    """Seconds of a call by each configuration that is right: medians of rounds in which they take turns."""
    import torch

    torch.manual_seed(0)
    signature = job.signature
    tensors = [
        torch.randn(job.columns if kind == "row" else (job.rows, job.columns), device=device).to(
            getattr(torch, job.dtype)
        )
        for kind in ("full", *signature.program.kinds)
    ]
    numbers = [0.375 for _ in signature.program.parameters]
    calls: dict[int, Callable[[], Sequence[torch.Tensor]]] = {
        number: partial(run, signature.program, tensors, numbers, chosen=chosen)
        for number, chosen in job.candidates.items()
    }
    usual: Sequence[torch.Tensor] | None = None
    for number, call in list(calls.items()):
        reason = ""
        try:
            _say(f"compile {number}")
            spilled = _spilled(call) if device.type == "cuda" else 0
            if spilled and usual is not None:
                reason = f"{spilled} bytes of a thread do not fit into registers"
            else:
                _say(f"run {number}")
                found = call()
                _wait(device)
                usual = found if usual is None else usual
                near = all(_near(one, other) for one, other in zip(found, usual, strict=True))
                reason = "" if near else "it gives something else"
        except Exception as error:  # such as a tile for which there is too little shared memory
            if usual is None:
                raise
            _wait(device)  # which fails where the device has lost this process
            reason = plain(str(error), 200)
        if reason:
            _say(f"out {number} {reason}")
            del calls[number]
    taken: dict[int, list[float]] = {number: [] for number in calls}
    for _ in range(_ROUNDS):
        for number, call in calls.items():
            _say(f"run {number}")
            taken[number].append(_seconds(call, device))
    return {number: statistics.median(each) for number, each in taken.items()}


def _spilled(call: Callable[[], object]) -> int:
    """What the kernels of a call spill: they are compiled, and nothing is launched.

    Raises:
        RuntimeError: the device has too little shared memory.
    """
    found = 0

    def compiled(kernel: Launch, arguments: Sequence[Any]) -> None:
        nonlocal found
        made = loaded(kernel.name, kernel.text).warmup(
            *arguments, grid=(kernel.programs,), **kernel.settings()
        )
        made.run  # noqa: B018  it is put onto the device, which says what it takes
        found += made.n_spills

    with instead(compiled):
        call()
    return found


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    difference = (one.float() - other.float()).norm()
    return bool(difference <= _OFF * other.float().norm())


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    import torch

    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(_CALLS):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / _CALLS


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
