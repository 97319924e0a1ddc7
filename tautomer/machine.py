"""What a processor has, as plain data that every floor may read; runtime/machine.py looks at the real one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tautomer.errors import InputError

KIB, MIB = 1 << 10, 1 << 20

# instruction set -> what /proc/cpuinfo calls the features that its kernels use; best first, and the last one
# runs anywhere. The names are those of codegen/isa.py.
ISA_NEEDS = {
    "avx512": frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}),
    "avx2": frozenset({"avx2", "fma", "f16c"}),
    "portable": frozenset[str](),
}


@dataclass(frozen=True)
class Bandwidth:
    """How fast one thread moves data that fits in no cache; bytes read and bytes written both count.

    Attributes:
        read: bytes per second that are only read; None when not measured.
        copy: with ordinary stores, which also read what they write over; this is not counted.
        stream: with stores that go around the caches; None also where there are none.
    """

    read: float | None
    copy: float | None
    stream: float | None


@dataclass(frozen=True)
class Machine:
    """A processor, and how much of it is ours.

    Attributes:
        name: what the processor calls itself, or the name by which the user asks for it.
        isas: the instruction sets that kernels can be written for, best first; the last one is "portable".
        cores: processors that the system sees; where a core runs two threads it counts twice.
        threads: how many of them this process may use at once.
        l1: bytes of a core's first cache for data.
        l2: bytes of a core's second cache.
        l3: bytes of the last cache, which cores share; the second one where there is no third.
        bandwidth: None when not measured.
        peak_flops: float32 operations per second of one thread in multiply-adds; None when not measured.
        fingerprint: the same for equal processors; empty for a machine that is only described.
        assumed: the names of those of these numbers that the system does not say, so that a usual one stands
            for them.
    """

    name: str
    isas: tuple[str, ...]
    cores: int
    threads: int
    l1: int
    l2: int
    l3: int
    bandwidth: Bandwidth | None = None
    peak_flops: float | None = None
    fingerprint: str = ""
    assumed: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The machine as an object of a JSON document."""
        return asdict(self)


def isas_of(features: Iterable[str]) -> tuple[str, ...]:
    """The instruction sets whose kernels run on a processor with these features, best first."""
    have = frozenset(features)
    return tuple(name for name, needs in ISA_NEEDS.items() if needs <= have)


# For optimizing here what will run there. Small members of each family: blocks that fit in these caches fit
# in those of the others, too.
DESCRIBED = {
    one.name: one
    for one in (
        Machine("x86-64", ("portable",), 4, 4, 32 * KIB, 256 * KIB, 4 * MIB),
        Machine("x86-64-v2", ("portable",), 4, 4, 32 * KIB, 256 * KIB, 4 * MIB),
        Machine("x86-64-v3", ("avx2", "portable"), 4, 4, 32 * KIB, 256 * KIB, 8 * MIB),
        Machine("x86-64-v4", ("avx512", "avx2", "portable"), 4, 4, 32 * KIB, 1 * MIB, 16 * MIB),
        Machine("aarch64", ("portable",), 4, 4, 64 * KIB, 512 * KIB, 4 * MIB),
    )
}
# what stands for caches that the system says nothing about
USUAL = DESCRIBED["x86-64"]


def described(name: str) -> Machine:
    """The machine of that name, of those that need not be here.

    Raises:
        InputError: there is none.
    """
    if name not in DESCRIBED:
        choices = ", ".join(("native", *DESCRIBED))
        raise InputError(f"unknown machine '{name}'", remedy=f"choose one of {choices}")
    return DESCRIBED[name]
