"""`tautomer bench`: what it prints, and what it refuses to time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from tautomer.cli import main

pytest.importorskip("onnxruntime")

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
LIGHT = "y = Relu (x)"
HEAVY = "a = Exp (x) b = Erf (a) c = Exp (b) d = Erf (c) e = Exp (d) y = Erf (e)"


@pytest.fixture
def files(tmp_path: Path):
    """Writes a model for each body and returns the paths."""

    def write(*bodies: str, name: str = "x") -> list[str]:
        paths = []
        for index, body in enumerate(bodies):
            text = f"{HEAD} g (float[n, 64] {name}) => (float[n, 64] y) {{ {body} }}"
            paths.append(str(tmp_path / f"{name}{index}.onnx"))
            onnx.save(parser.parse_model(text), paths[-1])
        return paths

    return write


def test_the_faster_model_has_the_larger_ratio(files, capsys) -> None:
    first, second = files(HEAVY, LIGHT)
    assert main(["bench", first, second, "--size", "n=512", "--rounds", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    slow, fast = document["models"]
    assert (slow["path"], slow["ratio"], slow["quartiles"]) == (first, 1.0, [1.0, 1.0])
    assert fast["ratio"] > 2  # it does a small part of the work
    assert fast["quartiles"][0] <= fast["ratio"] <= fast["quartiles"][1]
    assert (document["sizes"], document["threads"], document["rounds"]) == ({"n": 512}, 1, 3)


def test_the_table(files, tmp_path, capsys) -> None:
    (model,) = files(LIGHT)
    np.savez(tmp_path / "given.npz", x=np.zeros((3, 64), np.float32))
    options = ["--inputs", str(tmp_path / "given.npz"), "--threads", "2", "--rounds", "3"]
    assert main(["bench", model, *options]) == 0
    head, row, how = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "ms", "times", "as", "fast", "quartiles"]
    assert row.split()[0] == model
    assert row.split()[2:] == ["1.000", "1.00-1.00"]
    assert "2 threads" in how


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--size n=N"),
        (["--size", "m=3", "--size", "n=2"], "its open sizes are n"),
        (["--size", "n"], "NAME=N"),
        (["--size", "n=-1"], "NAME=N"),
        (["--threads", "0", "--size", "n=2"], "number of threads"),
        (["--rounds", "2", "--size", "n=2"], "too few"),
        (["--inputs", "absent.npz"], "absent.npz"),
    ],
    ids=" ".join,
)
def test_what_is_not_timed_is_one_line_and_exit_2(files, capsys, options, says) -> None:
    assert main(["bench", *files(LIGHT), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_models_with_other_inputs_are_not_compared(files, capsys) -> None:
    assert main(["bench", *files(LIGHT), *files("y = Relu (z)", name="z"), "--size", "n=2"]) == 2
    assert "no input of that name" in capsys.readouterr().err
