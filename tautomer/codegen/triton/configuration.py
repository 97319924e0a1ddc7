"""The tile of a Triton kernel, by the size of what it works on: rows and columns, and warps that share it.

A thread holds some 16 elements of a row: enough loads in flight to keep the memory busy, and few enough that
registers do not run out. A row is done block by block where even 1024 threads cannot hold it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tautomer.codegen.expression import reachable
from tautomer.codegen.trace import Program

Form = Literal["pointwise", "rows", "loops", "parts", "shared"]

# registers of 32 bits that the threads of a program of the grid share; a thread's own needs beside elements
_REGISTERS, _OTHER = 1 << 16, 20
_MOST_REGISTERS = 255
_SHARED_MEMORY = 64 << 10
# two programs of so many warps are on a multiprocessor at once: one reads while the other waits; and most
_WARPS, _MOST_WARPS = 16, 32
_MOST_PARTS = 64
# columns and warps of a part of a row, and the length from which on it is twice as long
_SHARED, _SHARED_LONG = (4096, 8), 65536
_PER_THREAD, _MOST_PER_THREAD = 16, 32
_LEAST_TILE = 2048
_POINTWISE = (1024, 4)
# columns and warps of rows that are done block by block. In stages it is slower: on an H100 softmax of 1024
# rows of 65536 takes 105 us in one and 121 in three; with neighbours taken one by one 116, but of 131072,
# where the last cache is what counts, 119 against 134: see `loops`. This was measured without turns.
_LOOPED = (16384, 32)
_TOGETHER, _TOGETHER_UP_TO = 8, 65536


@dataclass(frozen=True)
class Configuration:
    """How a kernel is launched.

    Attributes:
        rows: of a tile; 0 for a pointwise kernel.
        block: columns of a tile, or elements; a power of two.
        warps: of 32 threads.
        form: how rows are done.
        parts: programs of the grid that share a row, where the form is "parts" or "shared"; a power of two.
        stages: of loops over blocks or rows: how many are under way, of which all but one are being read.
        together: neighbours in a row that the loop of a softmax takes together.
        turns: whether every other loop over a row goes from its end to its beginning.
    """

    rows: int
    block: int
    warps: int
    form: Form = "rows"
    parts: int = 1
    stages: int = 3
    together: int = 1
    turns: bool = False


def configuration(program: Program, columns: int, itemsize: int) -> Configuration | None:
    """The configuration for rows of a length; None where there is no kernel for it.

    Args:
        program: what the kernel computes.
        columns: elements of a row, at least 1; of no meaning where there are no rows.
        itemsize: bytes of an element as it is stored.
    """
    if not program.rows:
        return Configuration(0, *_POINTWISE, "pointwise")
    block = block_of(columns)
    rows = max(1, _LEAST_TILE // block) if not program.totals else 1
    warps = max(1, min(_WARPS, rows * block // (32 * _PER_THREAD)))
    while warps <= _MOST_WARPS:
        per_thread = max(1, rows * block // (32 * warps))
        needed = _OTHER + per_thread * _live(program, itemsize)
        if per_thread <= _MOST_PER_THREAD and needed <= min(_MOST_REGISTERS, _REGISTERS // (32 * warps)):
            return Configuration(rows, block, warps, stages=_stages(program, rows * block * itemsize))
        warps *= 2
    if program.totals:
        return None
    together = _TOGETHER if columns <= _TOGETHER_UP_TO else 1
    return Configuration(1, *_LOOPED, "loops", stages=1, together=together, turns=True)


def for_few_rows(usual: Configuration, columns: int, rows: int, multiprocessors: int) -> Configuration:
    """A configuration for fewer rows than a device has multiprocessors: several of these share a row.

    Of 16 rows of bfloat16 on an H100, softmax of 65536 columns goes from 12.6 to 5.6 us, of 131072 from 23.1
    to 7.5, of 262144 from 43.8 to 13.2. With 1024 rows it loses, 111 to 134: waiting costs more than reading
    a row again from the last cache.
    """
    block = _SHARED[0] if columns <= _SHARED_LONG else 2 * _SHARED[0]
    parts = block_of(columns) // block
    if (
        usual.form != "loops"
        or 2 * rows > multiprocessors
        or not 1 < parts <= min(_MOST_PARTS, multiprocessors)
    ):
        return usual
    return Configuration(1, block, _SHARED[1], "parts", parts)


def looped(usual: Configuration) -> list[Configuration]:
    """Other ways to go over long rows: without turns, and with more or fewer programs at once."""
    other = 1 if usual.together > 1 else _TOGETHER
    return [replace(usual, turns=False), replace(usual, together=other)]


def shared(columns: int) -> list[Configuration]:
    """Ways to share long rows between programs that go over their stretches block by block."""
    return [
        Configuration(1, block, warps, "shared", parts, 1, together, turns=True)
        for parts in (2, 4, 8)
        for block, warps, together in ((*_LOOPED, 1), (*_LOOPED, _TOGETHER), (8192, 16, _TOGETHER))
        if parts * block < block_of(columns)
    ]


def on_amd(chosen: Configuration) -> Configuration:
    """The same for warps of 64 threads and 64 KiB of shared memory."""
    return replace(chosen, warps=max(1, chosen.warps // 2), stages=min(2, chosen.stages))


def programs_at_once(program: Program, chosen: Configuration, itemsize: int) -> int:
    """How many programs of the grid a multiprocessor has registers for, by estimate."""
    threads = 32 * chosen.warps
    per_thread = max(1, chosen.rows * chosen.block // threads)
    registers = 1.25 * (_OTHER + per_thread * _live(program, itemsize))
    return max(1, int(min(_REGISTERS / (threads * min(registers, _MOST_REGISTERS)), 2048 / threads)))


def block_of(columns: int) -> int:
    """The columns of a tile that holds whole rows."""
    return max(16, 1 << (columns - 1).bit_length())


def candidates(program: Program, columns: int, itemsize: int) -> list[Configuration]:
    """What is worth measuring for rows of a length: the usual configuration first, then its neighbours."""
    usual = configuration(program, columns, itemsize)
    if usual is None:
        return []
    found = [usual]
    for blocks, warps in ((1, 0.5), (1, 2), (2, 1), (2, 2), (0.5, 0.5), (0.5, 1)):
        by_rows = usual.form == "rows"
        rows = int(usual.rows * blocks) if by_rows else usual.rows
        block = usual.block if by_rows else int(usual.block * blocks)
        one = Configuration(rows, block, int(usual.warps * warps), usual.form)
        if (rows or not program.rows) and 1 <= one.warps <= _MOST_WARPS:
            found.append(one)
    if usual.form == "loops":
        found += [
            Configuration(1, block, warps, "parts", block_of(columns) // block)
            for block, warps in ((8192, 8), (8192, 16), (16384, 16))
            if 1 < block_of(columns) // block <= _MOST_PARTS
        ]
        found += [*looped(usual), *shared(columns)]
    return list(dict.fromkeys(found))


def _stages(program: Program, tile: int) -> int:
    """How many rows are under way: as far as shared memory goes."""
    tensors = 1 + len(program.of_kind("full"))
    return max(1, min(3, 1 + _SHARED_MEMORY // (tensors * tile)))


def _live(program: Program, itemsize: int) -> float:
    """Registers per element: for the tensors that wait for a reduction, as compilers need them."""
    nodes = reachable(program.results)
    full = sum(node.op in ("x", "operand") for node in nodes) - len(program.of_kind("row"))
    rows = len(program.of_kind("row"))
    return 0.3 + 0.9 * full + (0.25 if itemsize == 2 else 0.5) * rows + 1.15 * len(program.totals)
