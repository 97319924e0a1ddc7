"""Running the command line, in this process and in one of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
import onnx.parser
import pytest

from tautomer.cli import main

MODEL = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2, 4] x) => (float[2, 4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}, float[1] e = {0.00001},
                                         float[1] two = {2.0}> {
      [square] s = Pow(x, two)
      [mean] m = ReduceMean <axes = [-1], keepdims = 1> (s)
      [shift] v = Add(m, e)
      [root] r = Sqrt(v)
      [divide] n = Div(x, r)
      [scale] y = Mul(n, w)
    }"""


class Done(NamedTuple):
    """How a run ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model with one RMSNorm."""
    path = tmp_path / "in.onnx"
    path.write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `tautomer` in a process of its own."""

    def runner(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tautomer", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=False,
        )

    return runner


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs the command line in this process, which spares the time to start another."""
    monkeypatch.chdir(tmp_path)

    def caller(*arguments: object) -> Done:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capfd.readouterr())

    return caller


@pytest.fixture
def listing(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """What lies in the test's folder, by content."""

    def read() -> dict[str, str]:
        found = {}
        for path in sorted(tmp_path.rglob("*")):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(tmp_path))] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path.relative_to(tmp_path))] = "not a file"
        return found

    return read
