"""What compilers make of the kernels that are chosen, on a machine that has none of the devices."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tautomer.codegen.torch_operators import Signature, backward, forward, operator_of
from tautomer.codegen.triton_configuration import Configuration, configuration, on_amd, shared
from tautomer.codegen.triton_kernel import triton_kernel
from tautomer.errors import CheckFailedError

pytest.importorskip("triton", reason="there is no triton")

from tautomer.runtime.triton.resources import DEVICES, Resources, resources

# operator, direction, columns: one of each kind here, all of them by `python -m benchmarks.triton_resources`
CHOSEN = (
    ("rms_norm", forward, 768),
    ("add_layer_norm", forward, 8192),
    ("add_layer_norm", backward, 4096),
    ("softmax", forward, 32768),
    ("softmax", forward, 1 << 17),
    ("swiglu", backward, 1),
)
Job = tuple[str, str, int, str, str]
JOBS = [
    (name, part.__name__, columns, dtype, device)
    for name, part, columns in CHOSEN
    for dtype, device in (("bfloat16", "sm_90"), ("float32", "sm_80"), ("bfloat16", "gfx942"))
]


def device_of(job: Job) -> str:
    return job[-1]


def signature_of(name: str, part: str) -> Signature:
    return {"forward": forward, "backward": backward}[part](operator_of(name))


def compiled(job: Job) -> Resources:
    name, part, columns, dtype, device = job
    program = signature_of(name, part).program
    chosen = configuration(program, columns, 4 if dtype == "float32" else 2)
    assert chosen is not None
    kernel = triton_kernel(program, chosen.form)
    chosen = on_amd(chosen) if device.startswith("gfx") else chosen
    return resources(kernel, dtype, kernel.tile(chosen), chosen.warps, device)


@pytest.fixture(scope="module")
def found() -> dict[Job, Resources]:
    with ProcessPoolExecutor(2) as pool:
        return dict(zip(JOBS, pool.map(compiled, JOBS), strict=True))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: "-".join(map(str, job)))
def test_the_chosen_tile_stays_in_registers_and_reads_16_bytes_at_a_time(
    job: Job, found: dict[Job, Resources]
) -> None:
    made = found[job]
    assert made.spilled == 0
    assert made.wide_loads
    assert made.shared <= (64 << 10 if device_of(job).startswith("gfx") else 99 << 10)  # of the smallest


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
