"""`tautomer --help` answers at once: nothing heavy is imported before a verb runs."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

LIMIT = 0.150

_REPORT = """
import sys
from tautomer.cli import main
code = main(sys.argv[1:])
heavy = {"numpy", "onnx", "onnx_ir", "onnxruntime", "torch", "triton", "networkx", "flint"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else 0)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], [], ["--version"], ["optimize", "--help"], ["optimize"], ["doctor"]]
)
def test_imports_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", _REPORT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_answers_at_once(arguments):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tautomer", *arguments], capture_output=True, check=False)
        times.append(time.perf_counter() - start)
    assert min(times) < LIMIT
