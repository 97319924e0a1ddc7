"""A certificate beside the second model is read for what folded constants stand for, and nobody trusts it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from mutants import ORIGINAL, build
from onnx import numpy_helper

import tautomer
from tautomer.cli import main
from tautomer.verify.certificate import _digest, certificate_path

USED = "was read in the certificate beside the second model"
NOT_USED = "the certificate beside the second model was not used: "


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a transformer and its form with folded constants, certified."""
    folder = tmp_path_factory.mktemp("pair")
    onnx.save(build(ORIGINAL, "random"), folder / "model.onnx")
    tautomer.optimize(folder / "model.onnx", norm="rms", target="onnx").save(folder / "rms.onnx")
    return folder


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of them, to be changed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "model.onnx", tmp_path / "rms.onnx"


def _rewritten(path: Path, change) -> None:
    """Changes a certificate and gives it a hash that holds."""
    document = json.loads(path.read_text())
    body = {key: value for key, value in document.items() if key != "sha256"}
    change(body)
    path.write_text(json.dumps({**body, "sha256": _digest(body)}))


def _notes(verdict, text: str) -> list[str]:
    return [one for one in verdict.assumptions if text in one]


def test_its_expressions_are_used_and_checked(pair) -> None:
    verdict = tautomer.verify(*pair)
    assert verdict.verdict == "EQUAL" and "rounding" not in verdict.reason
    assert verdict.legs["constants"].passed
    assert [one["weights"] for one in verdict.legs["algebra"].detail["checks"]][-1] == "random"
    assert _notes(verdict, USED)


def test_the_command_uses_it_too(pair, capsys) -> None:
    assert main(["verify", *map(str, pair)]) == 0
    assert USED in capsys.readouterr().out


def test_without_it_the_constants_are_taken_for_rounded(pair, capsys) -> None:
    certificate_path(pair[1]).unlink()
    assert main(["verify", *map(str, pair)]) == 0
    out = capsys.readouterr().out
    assert "up to the rounding of" in out.splitlines()[0]
    assert "random weights not done" in out and "certificate" not in out


def test_one_of_other_files_is_left_alone_and_said(pair) -> None:
    model = onnx.load(pair[1])
    model.producer_name = "somebody else"
    onnx.save(model, pair[1])
    verdict = tautomer.verify(*pair)
    assert verdict.verdict == "EQUAL" and "up to the rounding of" in verdict.reason
    (note,) = _notes(verdict, NOT_USED)
    assert "is not the rewritten model" in note


def test_it_does_not_cover_a_wrong_constant(pair) -> None:
    model = onnx.load(pair[1])
    one = next(one for one in model.graph.initializer if one.name == "tautomer/folded_5")
    one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * 1.0001, one.name))
    onnx.save(model, pair[1])
    tampered = tautomer.verify(*pair)
    assert tampered.verdict == "DIFFERENT" and _notes(tampered, NOT_USED)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body.pop("rewritten"), "no certificate that can be read"),
        (lambda body: body.update(provenance=[1]), "cannot be read"),
        (lambda body: body["provenance"].update(bad=[{"stored": "nowhere"}]), ""),
        (
            lambda body: body["provenance"].update(
                {name: [{"stored": "nowhere"}] for name in body["provenance"]}
            ),
            "nowhere",
        ),
        (
            lambda body: body["provenance"].update({"tautomer/folded_5": [{"stored": "layer0/proj/weight"}]}),
            "ulp from the expression",
        ),
    ],
    ids=["no hashes", "no expressions", "of nothing", "of unknown constants", "wrong expression"],
)
def test_one_that_says_something_wrong_does_no_harm(pair, change, reason) -> None:
    _rewritten(certificate_path(pair[1]), change)
    verdict = tautomer.verify(*pair)
    assert verdict.verdict == "EQUAL"
    if reason:
        (note,) = _notes(verdict, NOT_USED)
        assert reason in note and "up to the rounding of" in verdict.reason
    else:
        assert _notes(verdict, USED)
