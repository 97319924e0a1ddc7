"""Triton kernels over rows by many configurations on a GPU: which is the best for a size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import torch

from benchmarks.gpu_case import Call, Case, Check, Place
from benchmarks.gpu_rows import LIMITS, error_of, inputs, numbers, row_case
from tautomer.codegen.torch.operators import backward, forward, operator_of
from tautomer.codegen.triton.configuration import Configuration, configuration, looped, shared
from tautomer.runtime.triton.launch import run

_GRADIENT_TILES = {
    columns: [
        Configuration(rows, block, warps, "rows", 1, stages)
        for rows, block, warps in tiles
        for stages in (1, 2, 3)
    ]
    for columns, tiles in (
        (768, ((1, 1024, 2), (1, 1024, 4), (2, 1024, 4), (1, 1024, 8), (4, 1024, 8))),
        (4096, ((1, 4096, 8), (1, 4096, 16))),
        (8192, ((1, 8192, 16), (1, 8192, 32))),
    )
}


def tuning(place: Place) -> list[Case]:
    """One kernel by many configurations: which is the best for a size."""
    found = []
    elements = place.size(1 << 26, 1 << 8)
    for columns, tiles in _GRADIENT_TILES.items():
        for name in ("layer_norm", "rms_norm"):
            found.append(_tuned(name, 2 * elements, place.size(columns, 48), tiles, place, gradient=True))
    for name in ("layer_norm", "add_rms_norm"):
        found.append(_tuned(name, elements, 16384, _candidates(16384), place))
    found.append(_tuned("softmax", elements, 32768, _candidates(32768), place))
    return found[:1] if place.rehearsal else found


def _candidates(columns: int) -> list[Configuration]:
    block = 1 << (columns - 1).bit_length()
    return [
        Configuration(rows, block, warps)
        for rows in (1, 2, 4)
        for warps in (2, 4, 8, 16, 32)
        if 8 <= rows * block // (32 * warps) <= 64 and rows * block <= max(4096, block)
    ]


def shared_rows(place: Place) -> list[Case]:
    """Long rows by several programs of the grid each, beside one program."""
    if place.rehearsal or _does_not_end():
        return []
    found = []
    for columns, tiles in _SHARED_TILES.items():
        few = [Configuration(1, block, warps, "parts", parts) for block, warps, parts in tiles]
        looped = configuration(forward(operator_of("softmax")).program, columns, 2)
        for rows in (64, 16):
            ways = few if looped is None else [looped, *few]
            found.append(_tuned("softmax", rows * columns, columns, ways, place))
    return found


def long_softmax(place: Place) -> list[Case]:
    """Rows that do not fit into registers, by all ways: what the cache holds of them, and who waits for whom.

    1056 rows are 8 for each of 132 multiprocessors, 1024 are 7.76: the difference is what the last one costs.
    """
    if place.rehearsal:
        return [_tuned("softmax", 128, 64, [Configuration(1, 16, 1, "loops", 1, 1, 1, True)], place)]
    program, waiting = forward(operator_of("softmax")).program, not _does_not_end()
    found = []
    for rows, columns in ((1024, 65536), (1056, 65536), (528, 131072), (528, 262144)):
        usual = configuration(program, columns, 2)
        assert usual is not None
        ways = [usual, *looped(usual), replace(usual, block=8192, warps=16)]
        if waiting:
            ways += [*shared(columns), Configuration(1, 16384, 16, "parts", columns // 16384)]
        found.append(_tuned("softmax", rows * columns, columns, list(dict.fromkeys(ways)), place))
    return found


def shared_checks(place: Place) -> list[Check]:
    """That programs which wait for each other end, and what they compute."""
    if place.rehearsal:
        return []
    chosen = Configuration(1, 8192, 8, "parts", 4)
    if _does_not_end():
        return [Check("programs that wait for each other", lambda: float("nan"), 0.0)]
    found = []
    for name in ("softmax", "log_softmax", "layer_norm"):
        signature = forward(operator_of(name))
        for one in (chosen, Configuration(1, 4096, 8, "shared", 4, 1, 1, turns=True)):
            error = partial(error_of, signature, (300, 32000), "bfloat16", place, one)
            found.append(Check(f"{name} by 4 programs a row, {one.form}", error, LIMITS["bfloat16"]))
    return found


@cache
def _does_not_end() -> str:
    """Why programs that wait for each other are not to be run here: tried where they can be stopped."""
    program = (
        "import torch; from benchmarks.gpu_tiles import shared_once; shared_once(); torch.cuda.synchronize()"
    )
    try:
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        return str(error)
    return ""


def shared_once() -> None:
    """Launches one of these kernels."""
    signature = forward(operator_of("softmax"))
    x = torch.randn(1000, 32768, device="cuda", dtype=torch.bfloat16)
    run(signature.program, [x], [], chosen=Configuration(1, 8192, 8, "parts", 4))


_SHARED_TILES = {
    65536: ((8192, 16, 8), (8192, 8, 8), (4096, 8, 16), (16384, 16, 4)),
    131072: ((8192, 16, 16), (8192, 8, 16), (16384, 16, 8)),
    262144: ((8192, 16, 32), (8192, 8, 32), (16384, 16, 16)),
}


def _tuned(
    name: str,
    elements: int,
    columns: int,
    tiles: Sequence[Configuration],
    place: Place,
    *,
    gradient: bool = False,
) -> Case:
    case = row_case(name, elements, columns, place, "", gradient=gradient)
    signature = (backward if gradient else forward)(operator_of(name))
    shape = (max(1, elements // columns), columns)

    def prepare() -> Mapping[str, Callable[[], Call]]:
        given = [inputs(signature, shape, "bfloat16", place.device, seed) for seed in range(case.sets)]
        values = numbers(signature)

        def by(chosen: Configuration) -> Callable[[], Call]:
            return lambda: lambda index: run(signature.program, given[index], values, chosen=chosen)

        return {_label(tile): by(tile) for tile in tiles}

    return Case(f"{case.name} tiles", case.size, prepare, sets=case.sets, bytes=case.bytes, together=True)


def _label(tile: Configuration) -> str:
    """Rows, columns, warps, and how a row is done."""
    by = f" by {tile.parts}"
    how = {"loops": " loops", "parts": by, "shared": f" loops{by}"}.get(tile.form, "")
    how += f" {tile.stages} stages" if tile.stages != 3 else ""
    how += f" {tile.together} together" if tile.together > 1 else ""
    return f"{tile.rows}x{tile.block}/{tile.warps}{how}{' turning' if tile.turns else ''}"
