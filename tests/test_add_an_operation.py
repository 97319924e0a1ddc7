"""The walk-through of docs/add-an-operation.md does what it says."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from tautomer.cli import main
from tautomer.patterns import operation

PAGE = (Path(__file__).parents[1] / "docs" / "add-an-operation.md").read_text()
DEFINITION, MODEL = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "norms.py").write_text(DEFINITION)
    return tmp_path


def test_the_walk_through(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter speaks of its own internals
            exec(compile(DEFINITION + MODEL, "page", "exec"), names)
    finally:
        operation.forget("MeanAbsNorm")
    found, nodes, apart = capsys.readouterr().out.strip().splitlines()[-3:]
    assert found.startswith("MeanAbsNorm 1e-06")
    assert "'tautomer.MeanAbsNorm': 1" in nodes
    assert nodes.endswith("EQUAL")
    assert float(apart) < 1e-5  # numbers up to about 5

    # what the function is close to, and is not
    assert main(["inspect", "model.onnx", "--operations", "norms.py"]) == 0
    operation.forget("MeanAbsNorm")
    assert "MeanAbsNorm" in capsys.readouterr().out
    assert main(["inspect", "model.onnx"]) == 0
    assert "MeanAbsNorm" not in capsys.readouterr().out


def test_it_is_short() -> None:
    lines = [line for line in (DEFINITION + MODEL).splitlines() if line.strip()]
    assert len(lines) < 40


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no file of Python"),
        ("def broken(:", "it does not run: SyntaxError"),
        (
            "import tautomer\n@tautomer.operation('A')\ndef a(m, x):\n    return x",
            "must begin with the formula",
        ),
    ],
)
def test_a_file_that_defines_nothing(text: str | None, said: str, folder: Path, capsys) -> None:
    if text is not None:
        (folder / "bad.py").write_text(text)
    assert main(["inspect", "model.onnx", "--operations", "bad.py"]) == 2
    assert said in capsys.readouterr().err
