"""DDP, FSDP2 and tensor parallelism: right, and rewritten where the whole graph and its weights are seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROUNDINGS = 512 * torch.finfo(torch.float32).eps
"""Gradients of two layers in float32, summed in another order; a wrong weight is off by 0.1 and more."""


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    if not torch.distributed.is_available():
        pytest.skip("this torch has no distributed package")
    script = Path(__file__).with_name("distributed_child.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("way", ["reduced", "sharded", "split"])
def test_outputs_and_gradients_are_those_of_the_plain_model(results: dict[str, Any], way: str) -> None:
    assert results[way]["outputs"] <= ROUNDINGS
    assert results[way]["gradients"] <= ROUNDINGS


def test_every_rewrite_applies_under_ddp(results: dict[str, Any]) -> None:
    norms, graphs = 3, 2
    assert results["reduced"]["converted"] == norms * graphs, results["reduced"]["lines"]


def test_what_is_declined_is_said(results: dict[str, Any]) -> None:
    assert results["split"]["converted"] == 0
    assert any("is a DTensor; only plain tensors are rewritten" in x for x in results["split"]["lines"])
