"""Every Triton kernel against its definition in float64, in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from interpreted import cases

pytest.importorskip("triton", reason="there is no triton")


@pytest.fixture(scope="module")
def reasons() -> dict[str, str]:
    """What each kernel is off by, from a process that interprets them all."""
    program = Path(__file__).with_name("interpreted.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", cases())
def test_a_kernel_computes_its_definition(name: str, reasons: dict[str, str]) -> None:
    assert reasons[name] == ""
