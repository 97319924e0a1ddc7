"""Choices that were measured: found, kept, believed only when they make sense, and used by libraries."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tautomer.cli import main
from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.cost_model import algorithm_for, thresholds
from tautomer.errors import InputError
from tautomer.machine import DESCRIBED, DEVICES, VECTOR_BYTES, Variant
from tautomer.patterns.operation import definition_of
from tautomer.runtime import doctor, tuning
from tautomer.runtime.machine import machine_of, this_machine
from tautomer.runtime.onnxruntime.candidates import Wanted
from tautomer.runtime.onnxruntime.kernels import source_of
from tautomer.runtime.session import installed
from tautomer.runtime.tuned import Tuning, keep, recalled, tuned, with_gains
from tautomer.target import KERNELS, ONNXRUNTIME

CHOICES = (("Softmax float32", (Variant("block", 0, 77),)), ("LogSoftmax float32", ()))
FOUND = Tuning(CHOICES, {"LayerNormalization": ((64, 0.5), (1024, 2.5))})


@pytest.fixture
def stored(cache: Path) -> Path:
    """Where the tuning of this machine is kept."""
    return cache.with_name("tunings") / f"{this_machine().fingerprint}.json"


def test_what_was_kept_comes_back_and_is_used(stored: Path) -> None:
    machine = this_machine()
    assert recalled(machine) is None
    assert tuned(machine) == machine
    assert keep(machine, FOUND) == stored
    assert stored.stat().st_mode & 0o777 == 0o600
    assert recalled(machine) == FOUND
    known = tuned(machine)
    assert [algorithm_for("Softmax", "float32", 1, columns, known) for columns in (76, 77)] == ["", "block"]
    assert thresholds("LogSoftmax", "float32", known) == ()
    assert thresholds("RMSNormalization", "float32", known) == thresholds(
        "RMSNormalization", "float32", machine
    )
    assert tuned(DESCRIBED["x86-64-v3"]) == DESCRIBED["x86-64-v3"]


def test_libraries_use_it(stored: Path) -> None:
    softmax = definition_of("Softmax", {})
    assert softmax is not None
    wanted = [Wanted(softmax, "FLOAT")]
    before = source_of(wanted).kernels[0][1].variants
    keep(this_machine(), FOUND)
    after = source_of(wanted).kernels[0][1].variants
    assert [one.when for one in after] == [Variant("block", 0, 77)]
    assert [one.when for one in before] != [one.when for one in after]
    assert "77" not in str([one.when for one in source_of(wanted, "portable").kernels[0][1].variants])


def test_gains_that_were_measured_here_replace_the_usual_ones(stored: Path) -> None:
    keep(this_machine(), FOUND)
    here = with_gains(KERNELS, this_machine())
    assert here.gain("LayerNormalization", 64) == 0.5
    assert here.gains["RMSNormalization"] == KERNELS.gains["RMSNormalization"]
    assert with_gains(KERNELS, machine_of("x86-64-v3")) is KERNELS
    assert with_gains(ONNXRUNTIME, this_machine()) is ONNXRUNTIME


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"tautomer": "0.0.0"},
        {"fingerprint": "another"},
        {"choices": None},
        {"choices": []},
        {"choices": {"Nothing float32": []}},
        {"choices": {"Softmax float32": [{"algorithm": "block"}]}},
        {"choices": {"Softmax float32": [{**dataclasses.asdict(Variant("block", 0, 1)), "more": 1}]}},
        *(
            {"choices": {"Softmax float32": [{**dataclasses.asdict(Variant("block", 0, 1)), name: value}]}}
            for name, value in (
                ("algorithm", "unknown"),
                ("algorithm", ["block"]),
                ("least_bytes", -1),
                ("least_bytes", 1.5),
                ("least_bytes", True),
                ("least_columns", 1 << 60),
                ("least_columns", "0); evil("),
                ("multiple", 0),
                ("in_place", 1),
            )
        ),
        {"choices": {"Softmax bfloat16": [dataclasses.asdict(Variant("block", 0, 1))]}},
        {"gains": {"Gelu": [[0, 1.0]]}},
        {"gains": {"Gelu": [[10, 1e9]]}},
        {"gains": {"Gelu": [[10, float("nan")]]}},
        {"gains": {"Gelu": [[10]]}},
    ],
    ids=str,
)
def test_a_file_that_makes_no_sense_is_ignored_with_one_line(
    stored: Path, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    keep(this_machine(), FOUND)
    stored.write_text(json.dumps({**json.loads(stored.read_text()), **change}))
    assert recalled(this_machine()) is None
    assert tuned(this_machine()) == this_machine()
    assert [record.getMessage().count("tuned for this machine") for record in caplog.records] == [1]


@pytest.mark.parametrize("text", ["", "{", "[" * 50_000, "null", "\0"])
def test_a_file_that_is_no_document_is_ignored(stored: Path, text: str) -> None:
    stored.parent.mkdir(parents=True)
    stored.write_text(text)
    assert recalled(this_machine()) is None


def test_a_folder_that_others_may_write_is_not_believed(stored: Path) -> None:
    keep(this_machine(), FOUND)
    stored.parent.chmod(0o777)
    assert recalled(this_machine()) is None


def rung(columns: int, ratio: float) -> tuning.Rung:
    return tuning.Rung("Softmax float32", "block", 4, columns, ratio)


@pytest.mark.parametrize(
    ("ratios", "first"),
    [
        ([0.9, 0.9, 0.9], 1),
        ([1.1, 0.9, 0.9], 2),
        ([0.9, 1.1, 0.9], 4),  # below, it does not win everywhere
        ([0.9, 0.9, 0.99], None),  # a gain that is noise
        ([1.1, 1.1, 1.1], None),
        ([], None),
    ],
)
def test_an_algorithm_is_used_from_where_it_always_wins(ratios: list[float], first: int | None) -> None:
    rungs = [rung(1 << power, ratio) for power, ratio in enumerate(ratios)]
    found = tuning._variants(rungs, "block", "float32")
    assert found == ([] if first is None else [Variant("block", 0, first)])


def test_the_verb_measures_keeps_and_tells(
    real_compiler: None,
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tuning, "_TURN", 1e4)
    monkeypatch.setattr(tuning, "_QUICK_ELEMENTS", 1 << 18)
    monkeypatch.setattr(tuning, "NORMS", ("RMSNormalization",))
    monkeypatch.setattr(tuning, "_STOCK", tuning._STOCK[:1])
    told = {one.name: one for one in doctor.examine()}["tuning"]
    assert (told.status, "tautomer tune" in told.remedy) == ("missing", True)
    assert main(["tune", "--quick", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(stored)
    assert list(document["choices"]) == ["Softmax float32", "LogSoftmax float32", "RMSNormalization float32"]
    assert {one["algorithm"] for one in document["measured"]} <= set(algorithms("Softmax"))
    assert all(0 < one["ratio"] < 100 for one in document["measured"])
    assert bool(document["gains"]) == installed()
    assert recalled(this_machine()) is not None
    told = {one.name: one for one in doctor.examine()}["tuning"]
    assert told.detail == "measured: Softmax float32, LogSoftmax float32, RMSNormalization float32"


def test_devices_are_described_and_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    for name, device in DEVICES.items():
        assert device.name == name
        assert device.kind in ("cuda", "hip")
        assert {"bandwidth", "shared_memory"} <= set(device.assumed)
        with pytest.raises(InputError, match="no kernels are written for"):
            machine_of(name)
    assert main(["kernels", "build", "--machine", "cuda:sm_90"]) == 2
    assert main(["optimize", "none.onnx", "out.onnx", "--machine", "hip:gfx942"]) == 2
    assert "described only" in capsys.readouterr().err
    assert [DESCRIBED[name].vector_bytes for name in ("x86-64", "x86-64-v3", "x86-64-v4")] == [16, 32, 64]
    assert VECTOR_BYTES.keys() == {isa for one in DESCRIBED.values() for isa in one.isas}


def test_a_library_for_another_machine(real_compiler: None, tmp_path: Path) -> None:
    arguments = ["kernels", "build", "--ops", "Relu", "--output", str(tmp_path / "relu.so")]
    assert main([*arguments, "--machine", "x86-64-v2"]) == 0
    assert (tmp_path / "relu.so").exists()
