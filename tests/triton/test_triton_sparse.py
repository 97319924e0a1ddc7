"""What compilers make of the kernels of sparse linear maps, on a machine that has none of the devices."""

from __future__ import annotations

import pytest

from benchmarks.triton_shipped import SPARSE_SIZES, Sparse
from tautomer.codegen.triton.sparse import sums_tile
from tautomer.runtime.triton.resources import DEVICES

pytest.importorskip("triton", reason="there is no triton")

# rows, type, device: what a step of decoding has; and the most rows of the widest type
CHOSEN = [*((1, "bfloat16", device) for device in DEVICES), (4, "float32", "sm_90")]


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: "-".join(map(str, chosen)))
@pytest.mark.parametrize("part", ["dots", "sums"])
def test_kernels_stay_in_registers_and_read_16_bytes_at_a_time(
    part: str, chosen: tuple[int, str, str]
) -> None:
    rows, dtype, device = chosen
    found = Sparse(part, rows, dtype, SPARSE_SIZES[0]).made(device)
    assert found.spilled == 0
    assert found.wide_loads
    assert found.shared <= 16 << 10  # several programs are on a multiprocessor at once


def test_sums_are_joined_in_registers() -> None:
    found = Sparse("join", 1, "bfloat16", SPARSE_SIZES[0]).made("sm_90")
    assert found.spilled == 0
    assert found.wide_loads


def test_small_matrices_are_cut_up_more_finely() -> None:
    large, small = (sums_tile(*size, 2, 132) for size in SPARSE_SIZES)
    assert large.chunk > small.chunk
    for (neurons, outputs), tile in zip(SPARSE_SIZES, (large, small), strict=True):
        assert -(-neurons // tile.chunk) * -(-outputs // tile.block) >= 2 * 132
