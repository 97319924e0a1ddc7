"""What compilers make of the kernels of sparse linear maps, on a machine that has none of the devices."""

from __future__ import annotations

import pytest

from tautomer.codegen.triton_sparse import JOIN, dots, dots_tile, join, sums, sums_tile
from tautomer.runtime.triton.modules import load_function
from tautomer.runtime.triton.resources import DEVICES, Resources, compiled

pytest.importorskip("triton", reason="there is no triton")

NEURONS, OUTPUTS = 11008, 4096
TYPES = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}
ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
# rows, type, device: what a step of decoding has; and the most rows of the widest type
CHOSEN = [*((1, "bfloat16", device) for device in DEVICES), (4, "float32", "sm_90")]


def made(part: str, rows: int, dtype: str, device: str) -> Resources:
    """What a compiler makes of a kernel at the size of a large model."""
    stored, size = TYPES[dtype], ITEM_SIZES[dtype]
    sizes = {"neurons": "i32", "outputs": "i32"}
    if part == "dots":
        named, tile = dots(rows, True, dtype), dots_tile(NEURONS, rows, size, 132)
        tensors = {"x": stored, "gate": stored, "up": stored, "up_bias": stored, "finite": "*i1"}
        tensors["factors"], sizes = "*fp32", {"inputs": "i32", "neurons": "i32"}
    elif part == "sums":
        named, tile = sums(rows), sums_tile(NEURONS, OUTPUTS, size, 132)
        tensors = {"h": stored, "weight": stored, "finite": "*i1", "sums": "*fp32"}
    else:
        named, tile = join(True), JOIN
        tensors = {"sums": "*fp32", "bias": stored, "y": stored}
        sizes = {"parts": "i32", "elements": "i32", "outputs": "i32"}
    signature = {f"{name}_ptr": kind for name, kind in tensors.items()} | sizes
    warps = tile.warps // 2 if device.startswith("gfx") else tile.warps
    return compiled(load_function(*named), signature, tile.constants(), warps, device)


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: "-".join(map(str, chosen)))
@pytest.mark.parametrize("part", ["dots", "sums"])
def test_kernels_stay_in_registers_and_read_16_bytes_at_a_time(
    part: str, chosen: tuple[int, str, str]
) -> None:
    found = made(part, *chosen)
    assert found.spilled == 0
    assert found.wide_loads
    assert found.shared <= 16 << 10  # several programs are on a multiprocessor at once


def test_sums_are_joined_in_registers() -> None:
    found = made("join", 1, "bfloat16", "sm_90")
    assert found.spilled == 0
    assert found.wide_loads


def test_small_matrices_are_cut_up_more_finely() -> None:
    large, small = sums_tile(11008, 4096, 2, 132), sums_tile(3072, 768, 2, 132)
    assert large.chunk > small.chunk
    for neurons, outputs, tile in ((11008, 4096, large), (3072, 768, small)):
        assert -(-neurons // tile.chunk) * -(-outputs // tile.block) >= 2 * 132
