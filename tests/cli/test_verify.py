"""`tautomer verify`: its exit codes, its document, one clear line for what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import parser

from tautomer.cli import main
from tautomer.runtime import numerics_leg

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) {{ {body} }}"""
SPELLED = "s = Sigmoid (x) y = Mul (x, s)"
SWAPPED = "s = Sigmoid (x) y = Mul (s, x)"


@pytest.fixture
def files(tmp_path: Path):
    """Writes a model for each body and returns the paths."""

    def write(*bodies: str) -> list[str]:
        paths = []
        for index, body in enumerate(bodies):
            paths.append(str(tmp_path / f"{index}.onnx"))
            onnx.save(parser.parse_model(TEXT.format(body=body)), paths[-1])
        return paths

    return write


@pytest.mark.parametrize(
    ("other", "options", "code", "verdict"),
    [
        (SWAPPED, [], 0, "EQUAL"),
        ("s = Tanh (x) y = Mul (s, x)", [], 1, "DIFFERENT"),
        ("y = Unheard (x)", [], 1, "NOT VERIFIED"),
        ("y = Unheard (x)", ["--allow-unverified"], 0, "NOT VERIFIED"),
    ],
)
def test_exit_codes_follow_the_verdict(files, capsys, other, options, code, verdict) -> None:
    assert main(["verify", *files(SPELLED, other), *options]) == code
    assert capsys.readouterr().out.startswith(f"{verdict}: ")


def test_the_document_has_what_the_contract_says(files, capsys) -> None:
    assert main(["verify", *files(SPELLED, "s = Tanh (x) y = Mul (s, x)"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["verdict"] == "DIFFERENT"
    assert set(document["legs"]) == {"algebra", "numerics", "special"}
    assert document["first_divergence"]["tensor"] == "s"


@pytest.mark.parametrize(
    ("body", "message"),
    [("z = Relu (x)", "no output of that name"), (None, "cannot be read")],
    ids=["other outputs", "missing file"],
)
def test_what_cannot_be_compared_is_one_line_and_exit_2(files, tmp_path, capsys, body, message) -> None:
    (first,) = files(SPELLED)
    second = str(tmp_path / "second.onnx")
    if body is not None:
        model = parser.parse_model(TEXT.format(body=body).replace("y)", "z)"))
        onnx.save(model, second)
    assert main(["verify", first, second]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_equal_names_the_legs_that_passed_and_those_that_were_not_run(files, capsys, monkeypatch) -> None:
    pair = files(SPELLED, SWAPPED)
    assert main(["verify", *pair]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head == "EQUAL: every leg of the evidence passed: algebra, numerics and special"
    monkeypatch.setattr(numerics_leg, "installed", lambda: False)
    assert main(["verify", *pair]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "EQUAL: algebra passed; numerics and special were not run"
    assert "numerics  not run: onnxruntime is not installed" in lines
    assert main(["verify", *pair, "--json"]) == 0
    legs = json.loads(capsys.readouterr().out)["legs"]
    assert [leg["status"] for leg in legs.values()] == ["passed", "not run", "not run"]


def test_a_rewrite_whose_whole_cannot_be_run_says_what_stands_for_it(tmp_path, capsys) -> None:
    body = (
        "h = o.Unheard (x) r = Pow (x, two) m = ReduceMean <axes = [-1]> (r) e = Add (m, tiny) d = Sqrt (e)"
    )
    text = """<ir_version: 8, opset_import: ["" : 17, "o" : 1]> g (float[2, 4] x) => (float[2, 4] y)
        <float two = {2}, float tiny = {0.001}> { %s n = Div (x, d) y = Add (n, h) }"""
    onnx.save(parser.parse_model(text % body), tmp_path / "m.onnx")
    assert main(["optimize", str(tmp_path / "m.onnx"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "the whole was not evaluated: algebra: " in said
    assert "; sites and constants passed; algebra, numerics and special were not run\n" in said


def test_a_reason_is_told_once(files, capsys) -> None:
    assert main(["verify", *files(SPELLED, "y = Unheard (x)")]) == 1
    said = capsys.readouterr().out
    assert said.count("no meaning") == 1
    assert "\nalgebra   not available\n" in said
