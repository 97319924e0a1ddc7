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
VECTOR_BYTES = {"avx512": 64, "avx2": 32, "portable": 16}


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
class Variant:
    """An algorithm of a kernel, and the least size from which it is used.

    Attributes:
        algorithm: its name, as `kernel_for` takes it.
        least_bytes: of x and y together; an operand and a y that takes the place of x do not count.
        least_columns: elements of a row.
        multiple: of which the elements of a row must be a multiple.
        in_place: whether it is used also where y takes the place of x.
    """

    algorithm: str
    least_bytes: int
    least_columns: int
    multiple: int = 1
    in_place: bool = True


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
        tuned: operation and type, as in "Softmax float32" -> the algorithms beside the usual one that were
            measured to be worth having, first match first; what is not here is decided by the caches.
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
    tuned: tuple[tuple[str, tuple[Variant, ...]], ...] = ()

    @property
    def vector_bytes(self) -> int:
        """Of the widest vectors that kernels are written for."""
        return VECTOR_BYTES[self.isas[0]]

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


@dataclass(frozen=True)
class Device:
    """A graphics processor, by what its vendor publishes; nothing of it is measured.

    Attributes:
        name: by which the user asks for it: the kind and the architecture.
        model: whose figures these are; others of the architecture differ.
        bandwidth: bytes per second between the processor and its memory.
        multiprocessors: cores that share nothing but the memory and the last cache.
        shared_memory: bytes that the threads of a block may share.
        vector: threads that do the same at once.
        last_cache: bytes of the cache before the memory.
        special_rate: exponentials, roots and the like per second.
        assumed: the names of the numbers that are only published.
        fingerprint: the same for equal devices; empty for one that is only described.
    """

    name: str
    model: str
    bandwidth: float
    multiprocessors: int
    shared_memory: int
    vector: int
    last_cache: int
    special_rate: float
    assumed: tuple[str, ...] = (
        *("bandwidth", "multiprocessors", "shared_memory", "vector", "last_cache", "special_rate"),
    )
    fingerprint: str = ""

    @property
    def kind(self) -> str:
        """cuda or hip."""
        return self.name.partition(":")[0]


DEVICES = {
    one.name: one
    for one in (
        Device("cuda:sm_80", "NVIDIA A100 SXM 80 GB", 2.039e12, 108, 163 * KIB, 32, 40 * MIB, 2.4e12),
        Device("cuda:sm_90", "NVIDIA H100 SXM 80 GB", 3.35e12, 132, 227 * KIB, 32, 50 * MIB, 3.7e12),
        Device("hip:gfx942", "AMD Instinct MI300X", 5.3e12, 304, 64 * KIB, 64, 256 * MIB, 1e13),
    )
}


def described(name: str) -> Machine:
    """The machine of that name, of those that need not be here.

    Raises:
        InputError: there is none, or it is a device that no kernels are written for.
    """
    if name in DEVICES:
        raise InputError(
            f"no kernels are written for {name} ({DEVICES[name].model}) yet: it is described only",
            remedy=f"choose one of {', '.join(('native', *DESCRIBED))}",
        )
    if name not in DESCRIBED:
        choices = ", ".join(("native", *DESCRIBED))
        raise InputError(f"unknown machine '{name}'", remedy=f"choose one of {choices}")
    return DESCRIBED[name]
