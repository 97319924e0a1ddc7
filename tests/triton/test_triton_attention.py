"""Attention kernels in Triton: what they compute, in its interpreter, and what they take, cross-compiled."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tautomer.codegen import triton_attention, triton_attention_backward
from tautomer.codegen.triton_attention_choices import DEVICES, choice
from tautomer.codegen.triton_attention_tiles import padded
from tautomer.patterns.attention_form import AttentionForm
from tautomer.patterns.score_functions import SCORE_FUNCTIONS
from tautomer.runtime.triton.modules import load_function
from tautomer.runtime.triton.resources import compiled

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
    tiling = choice(form, kernel, head, head, device, described=True)
    if kernel == "forward":
        named, inputs = triton_attention.forward(form, tiling), triton_attention.arguments(form, tiling)
    elif kernel == "queries":
        named = triton_attention_backward.of_queries(form, tiling)
        inputs = triton_attention_backward.arguments(form, tiling, ("dq",))
    else:
        named = triton_attention_backward.of_keys(form, tiling, grouped=False)
        inputs = triton_attention_backward.arguments(form, tiling, ("dk", "dv"))
    found = compiled_for(device, named, inputs, tiling, head)
    assert found.spilled == 0
    assert found.shared <= SHARED[device]
    assert found.wide_loads or tiling.loads != "pointers"


@pytest.mark.parametrize(
    ("kernel", "device"), [("forward", "sm_80"), ("queries", "sm_90"), ("keys", "sm_80")]
)
def test_float32_in_three_parts_stays_in_registers(kernel: str, device: str) -> None:
    fits(AttentionForm("softmax", "float32", causal="end"), kernel, 128, device)


@pytest.mark.parametrize("score", [name for name in SCORE_FUNCTIONS if name != "sigmoid"])
def test_every_score_function_compiles(score: str) -> None:
    # the interpreter does not look at types
    swept = score == "softplus_reweighted"
    form = AttentionForm(score, "bfloat16", causal="end", power=3 * swept)
    tiling = choice(form, "forward", 64, 64, "sm_90", described=True)
    named, inputs = triton_attention.forward(form, tiling), triton_attention.arguments(form, tiling)
    assert compiled_for("sm_90", named, inputs, tiling, 64).shared <= SHARED["sm_90"]


def compiled_for(device: str, named: tuple[str, str], inputs: Any, tiling: Any, head: int) -> Any:
    """What a compiler makes of a kernel."""
    size = {"rows": tiling.rows, "keys": tiling.keys}
    signature = {
        name: f"tensordesc<bf16[1, 1, {size[kind.split()[0]]}, {padded(head)}]>" if " " in kind else kind
        for name, kind in inputs
        if not name.endswith("_step")
    }
    constants = tiling.constants(head, head) | {name: 1 for name, _ in inputs if name.endswith("_step")}
    return compiled(load_function(*named), signature, constants, tiling.warps, device, tiling.stages)
