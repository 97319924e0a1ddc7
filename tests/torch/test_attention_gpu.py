"""Attention on GPUs that lack something, and of tensors that lie anyhow: what is chosen, and tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tautomer.codegen.torch.operators import forward, operator_of
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.torch import attention_cuda, first_runs
from tautomer.runtime.torch.attention_cuda import _tilings, _ways
from tautomer.runtime.torch.compat import FakeTensorMode
from tautomer.runtime.torch.ops_cuda import no_kernel
from tautomer.runtime.torch.sparse_cuda import attach_sparse_cuda

FORM = AttentionForm("sigmoid", "bfloat16")


def made(head: int = 64, *, shift: int = 0, step: int = 1, pad: int = 0) -> torch.Tensor:
    """[1, 2, 5, head] of bfloat16, in memory [1, 5, 2, head], with what may be wrong with it."""
    wide = torch.zeros(1, 5, 2, shift + step * head + pad, dtype=torch.bfloat16)
    return wide.transpose(1, 2)[..., shift : shift + step * head : step]


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of the CPU count as those of a Hopper."""
    monkeypatch.setattr(attention_cuda, "_class_of", lambda _: "sm_90")


LAYOUTS: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "as they are made": (made, "parameters"),
    "rows with gaps": (lambda: made(pad=8), "parameters"),
    "unaligned": (lambda: made(shift=1, pad=7), "pointers"),
    "unaligned rows": (lambda: made(pad=1), "pointers"),
    "every second element": (lambda: made(step=2), "pointers"),
    "one row for all": (lambda: made()[:, :, :1].expand(1, 2, 5, 64), "pointers"),
    "a width that is no power of two": (lambda: made(80), "pointers"),
    "a width below what a matrix unit takes": (lambda: made(8), "pointers"),
}


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("name", LAYOUTS)
def test_descriptors_are_of_tensors_that_they_can_describe(name: str) -> None:
    make, loads = LAYOUTS[name]
    x = make()
    (tiling,) = _tilings(FORM, ("forward",), x, x, x)
    assert tiling.loads == loads
    # and so were those that were tried
    assert tiling in [one for way in _ways(FORM, x, x) for _, one in way.tilings]


@pytest.mark.usefixtures("hopper")
def test_the_first_run_is_of_aligned_tensors_and_of_any(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[first_runs.Way] = []
    monkeypatch.setattr(first_runs, "of_attention", lambda form, ways, q, v: seen.extend(ways) or "no")
    monkeypatch.setattr(attention_cuda, "no_kernel", lambda *_: "")
    with torch.enable_grad():
        assert attention_cuda.attach(FORM, made(), made()) == "no"
    assert [one.gaps for one in seen] == [False, True]
    assert all([name for name, _ in one.tilings] == ["forward", "queries", "keys"] for one in seen)
    assert {tiling.loads for _, tiling in seen[1].tilings} == {"pointers"}


def test_a_device_without_bfloat16_runs_torchs_own_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.version.cuda is not None and not torch.cuda.is_available():
        pytest.skip("this build of torch asks the driver even for fake tensors of a GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    monkeypatch.setattr(attention_cuda, "_class_of", lambda _: "sm_80")
    with FakeTensorMode():
        x = torch.empty(1, 2, 5, 64, dtype=torch.float16, device="cuda:0")
        reasons = [
            no_kernel(forward(operator_of("softmax")), x),
            attention_cuda.no_kernel(FORM, x, x),
            attach_sparse_cuda(x),
        ]
    assert ["capability 8.0 and up, not 7.5" in one for one in reasons] == [True] * 3
