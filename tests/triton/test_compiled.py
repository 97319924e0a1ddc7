"""What compilers make of the kernels that are chosen, on a machine that has none of the devices."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tautomer.codegen.torch.operators import forward, operator_of
from tautomer.codegen.triton.configuration import Configuration, shared
from tautomer.codegen.triton.kernel import triton_kernel
from tautomer.errors import CheckFailedError

pytest.importorskip("triton", reason="there is no triton")

from benchmarks.triton_shipped import ITEM_SIZES, Rows, reached
from tautomer.runtime.triton.resources import DEVICES, Resources, resources

# each configuration that the rule gives, on one of the devices in turn; `benchmarks.triton_resources` has
# all kernels at all sizes on all devices
REACHED = [
    (kernel, devices[index % len(devices)])
    for index, kernel in enumerate(reached().values())
    if (devices := [one for one in DEVICES if kernel.runs_on(one)])
]
EVERYWHERE = [
    Rows("rms_norm", "forward", "bfloat16", 768),
    Rows("add_layer_norm", "backward", "bfloat16", 4096),
]
GENERATED = [
    *("EvoNormB0", "EvoNormS0", "GroupNormalization", "Dice", "PolyNorm", "ReduceLogSumExp"),
    *("rational_a", "series", "rowwise", "rowwise in groups"),
]
ALONE = [
    (Rows(name, "alone", "bfloat16", 768), DEVICES[index % len(DEVICES)])
    for index, name in enumerate(GENERATED)
]
JOBS = [*REACHED, *((kernel, device) for kernel in EVERYWHERE for device in DEVICES), *ALONE]
Job = tuple[Rows, str]


def made(job: Job) -> Resources:
    kernel, device = job
    return kernel.made(device)


@pytest.fixture(scope="module")
def found() -> dict[Job, Resources]:
    with ProcessPoolExecutor(2) as pool:
        return dict(zip(JOBS, pool.map(made, JOBS), strict=True))


def has_few_elements(kernel: Rows, device: str) -> bool:
    """Whether a thread has less than 16 bytes of a tile: one short row of a gradient."""
    chosen = kernel.chosen()
    assert chosen is not None
    threads = 64 * max(1, chosen.warps // 2) if device.startswith("gfx") else 32 * chosen.warps
    return 0 < chosen.rows * chosen.block * ITEM_SIZES[kernel.dtype] < 16 * threads


def label(job: Job) -> str:
    kernel, device = job
    return f"{kernel.operator}-{kernel.part}-{kernel.dtype}-{kernel.columns}-{device}"


@pytest.mark.parametrize("job", JOBS, ids=label)
def test_the_chosen_tile_stays_in_registers_and_reads_16_bytes_at_a_time(
    job: Job, found: dict[Job, Resources]
) -> None:
    (kernel, device), made = job, found[job]
    assert made.spilled == 0
    assert made.wide_loads or has_few_elements(kernel, device)
    assert made.shared <= (64 << 10 if device.startswith("gfx") else 99 << 10)  # of the smallest


@pytest.mark.parametrize(
    "chosen", [Configuration(1, 8192, 16, "parts", 32), shared(1 << 17)[0]], ids=["parts", "shared"]
)
def test_rows_that_programs_share_stay_in_registers(chosen: Configuration) -> None:
    kernel = triton_kernel(forward(operator_of("softmax")).program, chosen.form)
    made = resources(kernel, "bfloat16", kernel.tile(chosen), chosen.warps, "sm_90")
    assert made.spilled == 0 and made.wide_loads


def test_a_tile_that_is_too_large_is_seen_to_spill() -> None:
    kernel = triton_kernel(forward(operator_of("softmax")).program)
    assert resources(kernel, "bfloat16", {"ROWS": 1, "BLOCK": 1 << 16}, 8, "sm_90").spilled > 0


def test_what_does_not_compile_is_refused() -> None:
    kernel = triton_kernel(forward(operator_of("softmax")).program)
    with pytest.raises(CheckFailedError, match="does not compile"):
        resources(kernel, "bfloat16", {"ROWS": 1, "BLOCK": 48}, 4, DEVICES[0])


def test_the_file_of_a_kernel_is_written_again_when_it_holds_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tautomer.runtime.triton.modules import load_function

    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / "cache"))
    kernel = triton_kernel(forward(operator_of("softmax")).program)
    load_function(kernel.name, kernel.text)
    (place,) = (tmp_path / "cache" / "triton").glob("*.py")
    place.write_text("raise SystemExit")
    again = load_function(kernel.name, kernel.text)
    assert place.read_text() == kernel.text
    assert again.fn.__code__.co_filename == str(place)
