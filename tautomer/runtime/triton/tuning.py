"""Measures which configuration of a Triton kernel is the fastest on the GPU at hand, by the columns of a row.

A kernel runs on tensors that its last cache does not hold, by every candidate, in turns; the usual
configuration is given up only for one that is clearly faster. Results that differ are an error.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tautomer.codegen.torch_operators import OPERATORS, Signature, backward, forward, operator_of
from tautomer.codegen.triton_configuration import Configuration, candidates
from tautomer.codegen.triton_kernel import EXCHANGING
from tautomer.runtime.triton.device import device_here
from tautomer.runtime.triton.launch import run
from tautomer.runtime.triton.tuned import key_of

if TYPE_CHECKING:
    import torch

COLUMNS = (768, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_WINS = 0.97  # of the usual configuration's time, at most: less is noise
_ROUNDS, _CALLS = 7, 10
_OFF = 2e-2  # of the norm: rounding to bfloat16 in another order
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
        report: is told what is measured.
    """
    operators = [operator_of(name) for name in names] or OPERATORS
    found = []
    for operator in operators:
        for signature in (forward(operator), backward(operator)):
            for size in columns if signature.program.rows else columns[:1]:
                report(f"{signature.name}, {size} columns")
                measured = _measured(signature, size, dtype, index)
                if measured is not None:
                    found.append(measured)
    return found


def _measured(signature: Signature, columns: int, dtype: str, index: int) -> Measured | None:
    import torch

    program = signature.program
    device = device_here(index)
    kind: torch.dtype = getattr(torch, dtype)
    rows = max(16, 4 * device.last_cache // (columns * kind.itemsize))
    place = torch.device("cuda", index)
    tensors = [
        torch.randn(columns if of == "row" else (rows, columns), device=place).to(kind)
        for of in ("full", *program.kinds)
    ]
    numbers = [0.375 for _ in program.parameters]
    usual, times = None, {}
    for chosen in candidates(program, columns, kind.itemsize):
        if chosen.form in EXCHANGING and device.kind != "cuda":
            continue  # the order in which programs begin is known of NVIDIA's only
        try:
            results = run(program, tensors, numbers, chosen=chosen)
            torch.cuda.synchronize(place)
        except Exception:
            if usual is None:
                raise
            continue  # such as a tile for which there are not enough registers
        if usual is None:
            usual = results
        if all(_near(one, other) for one, other in zip(results, usual, strict=True)):
            times[chosen] = list[float]()
    for _ in range(_ROUNDS):
        for chosen, seconds in times.items():
            seconds.append(_seconds(partial(run, program, tensors, numbers, chosen=chosen)))
    if not times:
        return None
    middle = {chosen: statistics.median(seconds) for chosen, seconds in times.items()}
    first = next(iter(middle))
    best = min(middle, key=middle.__getitem__)
    best = best if middle[best] <= _WINS * middle[first] else first
    key = key_of(program, columns, kind.itemsize)
    return Measured(signature.name, columns, key, best, middle[best] / middle[first])


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    difference = (one.float() - other.float()).norm()
    return bool(difference <= _OFF * other.float().norm())


def _seconds(call: Callable[[], Any]) -> float:
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(_CALLS):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / _CALLS
