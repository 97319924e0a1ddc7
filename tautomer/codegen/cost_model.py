"""Which algorithm of a kernel is the fastest for a size: bytes against caches.

All numbers here are nanoseconds per float32 element on one thread of a processor with AVX2, 512 KiB of L2 and
32 MiB of L3, where a tensor of 64 MiB is read and one is written unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.schedule import schedule
from tautomer.codegen.trace import trace
from tautomer.machine import Machine, Variant
from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.rowwise.program import is_rowwise

_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
# those that have stores that go around the caches
_STREAMING = ("avx512", "avx2")
_LINE_BYTES = 64
_UNEVEN_ROW_BYTES = 16 << 10


def thresholds(definition_key: str, dtype: str, machine: Machine) -> tuple[Variant, ...]:
    """The algorithms beside "" that are worth having; the first whose threshold is reached is the one to use.

    Args:
        definition_key: the key of the operation's definition.
        dtype: what the tensors are stored as.
        machine: the caches, and by its first instruction set what the kernels are written for; what was
            measured there is preferred to what follows from the caches.
    """
    for name, variants in machine.tuned:
        if name == f"{definition_key} {dtype}":
            return variants
    found: list[Variant] = []
    there = algorithms(definition_key, dtype)
    if "stream" in there and machine.isas[0] in _STREAMING and _gains_from_streaming(definition_key):
        found += streamed(dtype, machine.l3 + 1)
    if "lane" in there and machine.isas[0] in _STREAMING:
        found.append(_lane(dtype, machine))
    if "block" in there and definition_key == "Softmax":
        found.append(_block(dtype, machine))
    return tuple(found)


def thresholds_of(definition: Definition, dtype: str, machine: Machine) -> tuple[Variant, ...]:
    """As `thresholds`, also for operators that are known by a hash of what they compute.

    Their results are stored past the caches, unless y is where something waits until its row is reduced, or
    they are one number per row. At 4096 x 11008 PolyNorm goes from .635 to .500, EvoNorm-S0 at 8 x 256 x 56 x
    56 from 1.17 to 1.01.
    """
    if not is_rowwise(definition.op):
        return thresholds(definition.key, dtype, machine)
    program = trace(definition)
    if machine.isas[0] not in _STREAMING or program.folded or schedule(program).kept is not None:
        return ()
    return tuple(streamed(dtype, machine.l3 + 1))


def chosen(variants: Sequence[Variant], total_bytes: int, columns: int, *, in_place: bool = False) -> str:
    """The algorithm for a size; the C++ of a library decides in the same way."""
    for one in variants:
        large = total_bytes >= one.least_bytes and columns >= one.least_columns
        if large and columns % one.multiple == 0 and (one.in_place or not in_place):
            return one.algorithm
    return ""


def algorithm_for(definition_key: str, dtype: str, rows: int, columns: int, machine: Machine) -> str:
    """The algorithm for a tensor of that size whose result lies elsewhere; "" follows the definition."""
    total = 2 * rows * columns * _SIZES[dtype]
    return chosen(thresholds(definition_key, dtype, machine), total, columns)


def _gains_from_streaming(key: str) -> bool:
    """Whether the result of large tensors should be stored past the caches.

    Norms gain, and so does LogSoftmax. Softmax loses, and with it what is like it (.78 -> .92 at 16384 x
    1024): its loops keep exponentials in y until their sum is known, and a y that is not in a cache must not
    be read again, so that they would be computed twice.
    """
    found: Definition | None = next((one for one in definitions() if one.key == key), None)
    return key == "LogSoftmax" or (found is not None and found.rows == "trailing")


def streamed(dtype: str, least_bytes: int) -> tuple[Variant, ...]:
    """What is larger than the last cache: an ordinary store reads the line that it writes over.

    At 16384 x 1024 RMSNormalization goes from .566 to .479 (another day from .610 to .421), of float16 from
    .379 to .304, LayerNormalization from .651 to .502, AddRMSNormalization from .788 to .677, LogSoftmax from
    .927 to .720. At 512 x 1024, which the cache holds, RMSNormalization goes from .203 to .216, and who reads
    y next would find it in no cache. In place it goes from .434 to .578: reading x has fetched the lines.

    Rows that end inside a line leave parts of lines, which memory takes slowly, some .2 us for each row:
    RMSNormalization goes from .440 to 1.434 at 100 columns, from .527 to 1.137 at 257, from .470 to .488 at
    1025, from .508 to .406 at 2049. Of float16 it still loses at 2049, .282 to .341.
    """
    size = _SIZES[dtype]
    line = _LINE_BYTES // size
    return (
        Variant("stream", least_bytes, line, multiple=line, in_place=False),
        Variant("stream", least_bytes, _UNEVEN_ROW_BYTES // size, in_place=False),
    )


def _lane(dtype: str, machine: Machine) -> Variant:
    """Softmax of rows that fill the last cache with their result: x is read twice, and y never.

    One row goes from .694 (three passes) and .688 (block) to .642 at 2^22 columns, from .951 and .889 to
    .718 at 2^24. Below it loses: .410 (block) -> .562 at 2^21, and .733 -> .805 for 64 rows of 2^20.
    """
    return Variant("lane", machine.l3 + 1, -(-machine.l3 // (2 * _SIZES[dtype])), in_place=False)


def _block(dtype: str, machine: Machine) -> Variant:
    """Softmax of rows whose exponentials have left the second cache when the last pass comes for them.

    With AVX2 and 512 KiB of L2, .607 -> .555 at 2048 rows of 16384 columns, .534 -> .524 at 2048 of 32000,
    .652 -> .577 at 512 of 131072, .500 -> .410 at one of 2^21, but .525 -> .592 at 4096 of 8192. With AVX-512
    and 1 MiB of L2, loops of this form that were written by hand go from .287 to .311 for one row of 32000
    columns and from .279 to .269 for one of 131072; for 512 of these from .571 to .418.
    """
    least = machine.l2 // 2 if machine.isas[0] == "avx512" else machine.l2 // 8
    return Variant("block", 0, -(-least // _SIZES[dtype]))
