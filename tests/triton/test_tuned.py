"""Configurations that were measured on a GPU: kept, found again, refused when they make no sense."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tautomer.cli import main
from tautomer.codegen.torch.operators import OPERATORS, backward, forward, operator_of
from tautomer.codegen.triton.configuration import Configuration, candidates, configuration
from tautomer.errors import ResourceError
from tautomer.machine import DEVICES
from tautomer.runtime.triton.tuned import keep, key_of, recalled
from tautomer.runtime.triton.tuning import Timer
from tautomer.runtime.triton.tuning_child import Job

DEVICE = replace(DEVICES["cuda:sm_90"], fingerprint="0" * 32)
PROGRAM = forward(operator_of("softmax")).program
CHOSEN = Configuration(1, 8192, 16, "parts", 8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / "cache"))
    recalled.cache_clear()
    return tmp_path / "cache"


def test_what_was_kept_is_found_again_beside_what_was_there() -> None:
    first, second = key_of(PROGRAM, 65536, 2), key_of(PROGRAM, 4096, 2)
    keep(DEVICE, {first: CHOSEN})
    place = keep(DEVICE, {second: Configuration(2, 4096, 8)})
    assert recalled(DEVICE) == {first: CHOSEN, second: Configuration(2, 4096, 8)}
    assert place.stat().st_mode & 0o077 == 0
    assert recalled(replace(DEVICE, fingerprint="1" * 32)) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"block": 48},
        {"block": 1 << 20},
        {"warps": 64},
        {"warps": 4.0},
        {"form": "none"},
        {"parts": 0},
        {"x": 1},
    ],
)
def test_a_tile_that_makes_no_sense_is_not_believed(change: dict[str, object]) -> None:
    place = keep(DEVICE, {key_of(PROGRAM, 65536, 2): CHOSEN})
    document = json.loads(place.read_text())
    (entry,) = document["entries"].values()
    entry.update(change)
    place.write_text(json.dumps(document))
    recalled.cache_clear()
    assert recalled(DEVICE) == {}


def test_rows_of_one_tile_share_an_entry_and_other_kernels_do_not() -> None:
    assert key_of(PROGRAM, 4096, 2) == key_of(PROGRAM, 3000, 2) != key_of(PROGRAM, 4097, 2)
    assert key_of(PROGRAM, 4096, 2) != key_of(PROGRAM, 4096, 4)
    assert key_of(PROGRAM, 4096, 2) != key_of(forward(operator_of("log_softmax")).program, 4096, 2)


@pytest.mark.parametrize("columns", [1, 768, 16384, 65536, 1 << 18])
def test_the_usual_configuration_is_measured_first_and_no_tile_is_empty(columns: int) -> None:
    for operator in OPERATORS:
        for signature in (forward(operator), backward(operator)):
            found = candidates(signature.program, columns, 2)
            assert found[:1] == [one for one in [configuration(signature.program, columns, 2)] if one]
            for one in found:
                assert one.block > 0 and one.warps in (1, 2, 4, 8, 16, 32)
                assert one.form != "parts" or one.block * one.parts >= columns


# what configurations do in another process, by their numbers
FAKE = """
import json, os, signal, sys, time
for line in sys.stdin:
    numbers = json.loads(line)["candidates"]
    for number in numbers:
        print("compile", number, flush=True)
        print("run", number, flush=True)
        if number == "1":
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == "2":
            time.sleep(100)
    print("out 3 8 bytes of a thread do not fit into registers")
    print("times", json.dumps({one: 0.25 for one in numbers if one != "3"}))
    print("done", flush=True)
"""


REASONS = (("warps=2", "SIGSEGV"), ("warps=4", "does not end"), ("warps=8", "do not fit into registers"))


def job(*chosen: Configuration) -> Job:
    return Job("softmax", "forward", "float32", 3, 40, dict(enumerate(chosen)))


def test_a_configuration_that_crashes_or_hangs_costs_itself(tmp_path: Path) -> None:
    child, said = tmp_path / "child.py", list[str]()
    child.write_text(FAKE)
    with Timer("cpu", said.append, timeout=2.0, child=child) as timer:
        times = timer.times(job(*(Configuration(1, 64, warps) for warps in (1, 2, 4, 8, 16))))
    assert times == {0: 0.25, 4: 0.25}
    found = zip(REASONS, said, strict=True)
    assert all(part in line for parts, line in found for part in parts), said


def test_a_device_that_another_process_cannot_use_is_told(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text("raise SystemExit('all CUDA-capable devices are busy')")
    with Timer("cpu", print, child=child) as timer, pytest.raises(ResourceError, match="are busy"):
        timer.times(job(Configuration(1, 64, 1)))


def test_what_is_timed_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real child, in Triton's interpreter."""
    pytest.importorskip("triton", reason="there is no triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    said: list[str] = []
    with Timer("cpu", said.append) as timer:
        usual, short = Configuration(1, 64, 1), Configuration(1, 16, 1)  # which holds 16 of 40 columns
        times = timer.times(job(usual, replace(short, form="loops"), short))
    assert times.keys() == {0, 1} and min(times.values()) > 0.0
    assert len(said) == 1 and "gives something else" in said[0]


def test_without_a_gpu_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["tune", "--gpu"]) in (3, 4)
    assert "GPU" in capsys.readouterr().err
