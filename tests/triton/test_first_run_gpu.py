"""The first run of Triton kernels in another process: what it sees, what it survives, that it costs once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tautomer.codegen.torch.operators import forward, operator_of
from tautomer.codegen.triton.attention_tiles import Tiling
from tautomer.codegen.triton.configuration import Configuration
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.torch.first_runs import OFF, Way, attention_trial, rows_trial
from tautomer.runtime.triton import first_run as module
from tautomer.runtime.triton.first_run import SWITCH, Pair, first_run
from tautomer.runtime.triton.grid import Launch, launch

pytest.importorskip("triton", reason="there is no triton")

SOFTMAX = rows_trial(forward(operator_of("softmax")), Configuration(2, 16, 1), 13, "float32")
# a fake child: what it does for a line on its stdin
FAKES = {
    "crashes": "print('compile\\nrun', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs": "print('compile\\nrun', flush=True); time.sleep(100)",
    "does not compile": "print('compile', flush=True); sys.exit('ptxas: out of shared memory')",
    "computes nothing": "print('compile\\nrun\\ndone', flush=True)",
    "never begins": "time.sleep(100)",
    "has no device": "sys.exit('RuntimeError: all CUDA-capable devices are busy')",
    "is killed": "print('compile\\nrun', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
}
REASONS = {
    "crashes": "it crashes when it runs (SIGSEGV)",
    "hangs": "it does not end within 0.5 s when it runs",
    "does not compile": "it fails when it is compiled (ptxas: out of shared memory)",
    "computes nothing": "in its first run it",
    "never begins": "did not take place",
    "has no device": "all CUDA-capable devices are busy",
    "is killed": "did not take place",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known; children interpret kernels on the CPU."""
    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(module, "_KNOWN", {})


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], Path]:
    """The program of a child that does something else."""

    def write(name: str) -> Path:
        place = tmp_path / "child.py"
        body = f"for line in sys.stdin:\n    {FAKES[name]}\n"
        place.write_text(f"import os, signal, sys, time\n{body}")
        return place

    return write


def outside() -> Sequence[Pair]:
    """A kernel that writes one element too many."""
    body = "    tl.store(x_ptr + tl.arange(0, SIZE), tl.arange(0, SIZE))\n"
    head = "import triton\nimport triton.language as tl\n\n\n"
    text = f"{head}@triton.jit\ndef outside(x_ptr, SIZE: tl.constexpr):\n{body}"
    x = torch.zeros(3, dtype=torch.int32)
    launch(Launch("outside", text, 1, {"SIZE": 4}, 1), [x], x.device)
    return [(x, torch.arange(3).double())]


def test_kernels_of_several_launches_pass_and_are_not_run_again(fake: Callable[[str], Path]) -> None:
    form = AttentionForm("softmax", "float32", causal="end", lengths=True)
    kernels = ("forward", "queries", "keys")
    described, any_ = (
        Way(tuple((name, Tiling(16, 16, 4, 1, loads)) for name in kernels), gaps=gaps)
        for loads, gaps in (("parameters", False), ("pointers", True))
    )

    def compute() -> Sequence[Pair]:
        return [pair for way in (described, any_) for pair in attention_trial(form, way, 16, 16, True)()]

    assert first_run("attention", "key", "cpu", compute, off=OFF["float32"]) == ""
    module._KNOWN.clear()  # as another process
    crashing = fake("crashes")
    assert first_run("attention", "key", "cpu", compute, off=1e-4, child=crashing) == ""
    assert first_run("attention", "another key", "cpu", compute, off=1e-4, child=crashing) != ""


def test_what_is_written_outside_of_a_tensor_is_seen() -> None:
    assert "outside of its tensors" in first_run("it", "key", "cpu", outside, off=1e-4)


@pytest.mark.parametrize("name", FAKES)
def test_what_a_kernel_does_costs_the_kernel_alone(
    name: str, fake: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    def asked(child: Path) -> str:
        return first_run("softmax", "key", "cpu", SOFTMAX, off=OFF["float32"], timeout=0.5, child=child)

    assert REASONS[name] in asked(fake(name))
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "softmax runs by torch's own operators" in caplog.text
    module._KNOWN.clear()  # as another process, which tries again what says nothing about the kernel
    again = asked(fake("never begins"))
    assert ("has not begun" in again) == (name in ("never begins", "has no device", "is killed"))


def test_kernels_may_be_used_untried(fake: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    assert first_run("softmax", "key", "cpu", SOFTMAX, off=1e-4, child=fake("crashes")) == ""
