"""Attention kernels in Triton: what they compute, in its interpreter, and what they take, cross-compiled."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.triton_shipped import FAMILIES, Attention
from tautomer.codegen.triton.attention_choices import DEVICES
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS

pytest.importorskip("triton", reason="there is no triton")
pytest.importorskip("torch", reason="there is no torch")

PROGRAM = Path(__file__).with_name("interpreted_attention.py")
# bytes of shared memory that a program can have: the least of compute capability 8, a Hopper, a CDNA3
SHARED = {"sm_80": 99 << 10, "sm_90": 227 << 10, "gfx942": 64 << 10}


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


@pytest.mark.parametrize("kernel", ["forward", "queries", "keys"])
@pytest.mark.parametrize(("device", "head"), [*((device, 128) for device in DEVICES), ("sm_90", 64)])
def test_shipped_kernels_fit_their_devices(device: str, head: int, kernel: str) -> None:
    fits(AttentionForm("sigmoid", "bfloat16", causal="end"), kernel, head, device)


def fits(form: AttentionForm, kernel: str, head: int, device: str) -> None:
    """Asserts that a kernel keeps to the registers and the shared memory of a device."""
    one = Attention(form, kernel, head)
    found = one.made(device)
    assert found.spilled == 0
    assert found.shared <= SHARED[device]
    assert found.wide_loads or one.chosen(device).loads != "pointers"


@pytest.mark.parametrize(
    ("kernel", "head", "device"),
    [("forward", 128, "sm_80"), ("queries", 128, "sm_90"), ("keys", 128, "sm_80")],
)
def test_float32_stays_in_registers(kernel: str, head: int, device: str) -> None:
    fits(AttentionForm("softmax", "float32", causal="end"), kernel, head, device)


# Where registers ran out; `benchmarks.triton_resources` has every form by every kernel on all devices.
ADDED = AttentionForm("softmax", "bfloat16", mask="additive")
MASKED: list[tuple[AttentionForm, str, str]] = [
    (ADDED, "forward", "sm_90"),
    (ADDED, "keys", "gfx942"),
    (ADDED, "forward", "sm_80"),
    (AttentionForm("softmax", "bfloat16", causal="start", window=True), "forward", "sm_90"),
    (AttentionForm("softmax", "bfloat16", causal="end"), "forward", "sm_90"),
    (AttentionForm("softplus", "bfloat16"), "keys", "sm_90"),
]


@pytest.mark.parametrize(("form", "kernel", "device"), MASKED)
def test_masks_and_other_scores_stay_in_registers(form: AttentionForm, kernel: str, device: str) -> None:
    fits(form, kernel, 128, device)


@pytest.mark.parametrize("score", ["relu2", "softmax1", "softplus_reweighted"])
def test_other_score_functions_compile(score: str) -> None:
    # the interpreter does not look at types
    swept = score == "softplus_reweighted"
    form = AttentionForm(score, "bfloat16", causal="end", power=3 * swept)
    assert Attention(form, "forward", 64).made("sm_90").shared <= SHARED["sm_90"]


def test_every_score_function_is_among_those_that_the_benchmark_compiles() -> None:
    assert {one.form.score for family in ("attention", "masks") for one in FAMILIES[family]()} == set(
        SCORE_FUNCTIONS
    )
