"""`tautomer --help` answers at once: nothing heavy is imported before a verb runs."""

from __future__ import annotations

import resource
import subprocess
import sys

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
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "tautomer", *arguments], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # processor time: other tests run beside this one, and their share is not ours
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < LIMIT
