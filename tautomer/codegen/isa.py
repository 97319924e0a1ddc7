"""The instruction sets that a kernel can be written for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Isa:
    """An instruction set.

    Attributes:
        name: "avx512" and "avx2" use the intrinsics of those; any other name is plain C++ on vectors.
        lanes: float32 numbers in a vector; a power of two, at least 4.
        flags: what the compiler needs to be told.
        pairs: whether it has dot products of pairs of bfloat16.
    """

    name: str
    lanes: int
    flags: tuple[str, ...] = ()
    pairs: bool = False


AVX512 = Isa("avx512", 16, ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"))
AVX512_BF16 = Isa("avx512", 16, (*AVX512.flags, "-mavx512bf16"), pairs=True)
AVX2 = Isa("avx2", 8, ("-mavx2", "-mfma", "-mf16c"))
PORTABLE = Isa("portable", 4, ())
