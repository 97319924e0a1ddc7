"""Attention in torch graphs for a GPU: what becomes ours, and what stays. No GPU is needed: nothing runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from tautomer.codegen.torch_attention import BACKWARD, KERNEL
from tautomer.patterns.attention_form import AttentionForm
from tautomer.patterns.attention_operator import form_text
from tautomer.remarks import Remark
from tautomer.runtime.torch import attention_cuda, attention_use
from tautomer.runtime.torch.attention_library import attach
from tautomer.runtime.torch.compat import FakeTensorMode, make_fx

SIZES = (2, 4, 1024, 64)
pytestmark = pytest.mark.skipif(
    torch.version.cuda is not None and not torch.cuda.is_available(),
    reason="this build of torch asks the driver even for fake tensors of a GPU",
)


def graph_of(function: Callable[..., Any], *sizes: tuple[int, ...]) -> torch.fx.GraphModule:
    """The pre-dispatch graph of a function of tensors on a GPU, which need not be there."""
    with FakeTensorMode() as mode:
        given = [torch.empty(size, dtype=torch.bfloat16, device="cuda:0") for size in sizes]
        with mode:
            return make_fx(function, pre_dispatch=True)(*given)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Hopper; the operators are known."""
    reason = attach(AttentionForm("softmax"))
    if reason:
        pytest.skip(reason)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(attention_cuda, "attach", lambda *_: "")


def used(function: Callable[..., Any], *sizes: tuple[int, ...]) -> tuple[list[Remark], list[tuple[Any, ...]]]:
    """The remarks, and the numbers and forms of the operators of ours that were put in."""
    graph = graph_of(function, *(sizes or (SIZES,) * 3))
    with torch.no_grad():
        remarks = attention_use.use_attention(graph)
    ours = [n for n in graph.graph.nodes if n.target is attention_use.overload()]
    return remarks, [node.args[7:] for node in ours]


def sigmoid(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q @ k.transpose(-2, -1) * (1.0 / math.sqrt(64))
    return torch.sigmoid(scores - math.log(1024)) @ v


@pytest.mark.usefixtures("hopper")
def test_sigmoid_attention_that_is_written_out() -> None:
    remarks, found = used(sigmoid)
    assert [one.kind for one in remarks] == ["passed"]
    ((form, scale, bias, *_),) = found
    assert form == form_text(AttentionForm("sigmoid"))
    assert (scale, bias) == pytest.approx((0.125, -math.log(1024)), rel=1e-15)  # float64


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    ("function", "form", "numbers"),
    [
        (lambda q, k, v: torch.relu(k.mT.__rmatmul__(q) / 4 - 1) @ v, "relu", (0.25, -1.0)),
        (lambda q, k, v: torch.softmax(q @ k.permute(0, 1, 3, 2), -1) @ v, "softmax", (1.0, 0.0)),
        (lambda q, k, v: (-(2 - (q @ k.transpose(2, 3)))).sigmoid() @ v, "sigmoid", (1.0, -2.0)),
    ],
)
def test_spellings(function: Callable[..., Any], form: str, numbers: tuple[float, float]) -> None:
    _, found = used(function)
    assert found == [(form, *numbers, 1.0, 0, 0)]


@pytest.mark.usefixtures("hopper")
def test_torchs_own_attention() -> None:
    remarks, found = used(
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        *((1, 2, 4096, 64),) * 3,
    )
    assert [one.kind for one in remarks] == ["passed"]
    assert found[0][:2] == (form_text(AttentionForm("softmax", causal="start", empty="zero")), 0.125)


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    ("function", "sizes", "reason"),
    [
        (lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, dropout_p=0.1), SIZES, "dropout"),
        (functional.scaled_dot_product_attention, SIZES, "from 4096"),
        (functional.scaled_dot_product_attention, (1, 2, 4096, 96), "no gain"),
        (sigmoid, (2, 4, 100, 64), "from 256"),
    ],
)
def test_what_stays_says_why(function: Callable[..., Any], sizes: tuple[int, ...], reason: str) -> None:
    remarks, found = used(function, *(sizes,) * 3)
    assert not found
    assert len(remarks) == 1 and reason in remarks[0].reason


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    "function",
    [
        lambda q, k, v: torch.sigmoid((q @ k.mT) ** 2) @ v,
        lambda q, k, v: torch.sigmoid(q @ k) @ v,
        lambda q, k, v: torch.softmax(q @ k.mT, -2) @ v,
        lambda q, k, v: (w := torch.sigmoid(q @ k.mT)) @ v + w.sum(),
        lambda q, k, v: torch.sigmoid(q @ k.mT + q.sum()) @ v,
    ],
    ids=["a square", "no transpose", "another axis", "weights that are read", "a sum that varies"],
)
def test_near_misses_stay(function: Callable[..., Any]) -> None:
    sizes = (2, 4, 1024, 1024)
    remarks, found = used(function, sizes, sizes, sizes)
    assert not remarks and not found


def test_on_the_cpu_nothing_is_said() -> None:
    given = [torch.randn(1, 2, 8, 4) for _ in range(3)]
    graph = make_fx(sigmoid, pre_dispatch=True)(*given)
    assert attention_use.use_attention(graph) == []


@pytest.mark.usefixtures("hopper")
def test_results_and_gradients_lie_as_their_tensors_do() -> None:
    with FakeTensorMode():
        given = [
            torch.empty((2, n, h, 64), dtype=torch.bfloat16, device="cuda:0").transpose(1, 2)
            for h, n in ((4, 9), (2, 13), (2, 13))
        ]
        for score in ("sigmoid", "softmax", "relu"):
            form = form_text(AttentionForm(score, causal="end"))
            rest = (*given, None, None, None, None, form, 0.125, 0.0, 1.0, 0, 0)
            y, statistics = attention_use.overload(KERNEL)(*rest)
            assert y.stride() == given[0].stride()  # so that transposes around it need no copy
            found = attention_use.overload(BACKWARD)(y, y, statistics, *rest)
            assert [one.shape for one in found] == [one.shape for one in given]
            assert [one.stride() for one in found] == [one.stride() for one in given]
