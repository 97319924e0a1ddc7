"""What `benchmarks.gpu` checks and measures, as plain data: a section is a list of checks and one of cases.

    def checks(place: Place) -> list[Check]
    def cases(place: Place) -> list[Case]

Everything that can fail is inside functions that are called one by one, so that what fails is one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# takes the number of one of the sets of inputs, and returns the result
Call = Callable[[int], Any]
OURS = "ours"


@dataclass(frozen=True)
class Place:
    """Where it runs.

    Attributes:
        device: of torch.
        rehearsal: whether it is only to be seen that everything runs, on tiny tensors: kernels are
            interpreted on the CPU.
    """

    device: str
    rehearsal: bool

    def size(self, wanted: int, tiny: int) -> int:
        """A size, or the one for a rehearsal."""
        return tiny if self.rehearsal else wanted


@dataclass(frozen=True)
class Check:
    """A kernel beside a reference in higher precision.

    Attributes:
        name: the kernel, direction, type and size.
        error: runs both on fresh random inputs and returns |out - reference| / |reference|, the largest of
            all outputs; NaN never passes.
        limit: what it may be.
    """

    name: str
    error: Callable[[], float]
    limit: float


@dataclass(frozen=True)
class Case:
    """One size of something that is timed beside its peers.

    Attributes:
        name: what is computed.
        size: as text.
        sets: how many sets of inputs are taken in turns, so that no cache holds them.
        prepare: makes the inputs, and a function for each peer that makes its call; OURS is one of them.
        bytes: that have to be read and written at least; 0 where the limit is another one.
        flops: operations of the matrix unit at least; 0 where the limit is another one.
        graph: whether calls are replayed from a CUDA graph, so that only the device's time counts.
        together: whether the peers may be compiled at the same time, by threads.
        bar: what is asked for, as text.
    """

    name: str
    size: str
    prepare: Callable[[], Mapping[str, Callable[[], Call]]]
    sets: int = 2
    bytes: int = 0
    flops: float = 0
    graph: bool = True
    together: bool = False
    bar: str = ""


def relative(out: Any, reference: Any) -> float:
    """|out - reference| / |reference| of tensors or tuples of them, the largest."""
    pairs = zip(out, reference, strict=True) if isinstance(out, tuple) else ((out, reference),)
    return max(_relative(one, other) for one, other in pairs)


def _relative(out: Any, reference: Any) -> float:
    wide = reference.double()
    size = float(wide.norm())
    error = float((out.double().to(wide.device) - wide).norm())
    # a maximum with NaN is not NaN in Python
    return error / size if size > 0 and error == error else error if error == error else float("inf")
