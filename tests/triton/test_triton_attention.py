"""Attention kernels in Triton: what they compute, in its interpreter, and what they take, cross-compiled."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="there is no triton")
pytest.importorskip("torch", reason="there is no torch")

PROGRAM = Path(__file__).with_name("interpreted_attention.py")


def names() -> list[str]:
    """The cases of the program, which cannot be imported here: it needs another triton."""
    for node in ast.parse(PROGRAM.read_text()).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "CASES":
            assert isinstance(node.value, ast.Dict)
            cases = [str(ast.literal_eval(key)) for key in node.value.keys if key is not None]
            return [*cases, "operator of torch, sigmoid", "operator of torch, softmax"]
    raise AssertionError("there are no cases")


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    """What each case is off by."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", names())
def test_kernels_give_what_the_formula_gives(name: str, interpreted: dict[str, str]) -> None:
    assert interpreted[name] == ""
