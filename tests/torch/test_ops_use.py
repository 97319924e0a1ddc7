"""Operators of ours in graphs: where they are put in, and that the graph stays the same function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tautomer.remarks import Remark
from tautomer.runtime.torch import backend, ops_gains
from tautomer.runtime.torch.ops_gains import no_gain
from tautomer.runtime.torch.ops_use import use_kernels

ROW = 24


@pytest.fixture(autouse=True)
def any_size(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors count as large."""
    least = dict.fromkeys(ops_gains._LEAST["float32"], (1, 1))
    monkeypatch.setattr(ops_gains, "_LEAST", {"float32": least})


def exported(function: Callable[..., Any], *inputs: torch.Tensor) -> torch.fx.GraphModule:
    class Model(nn.Module):
        def forward(self, *given: torch.Tensor) -> Any:
            return function(*given)

    with torch.no_grad():
        return torch.export.export(Model(), inputs).module()  # type: ignore[return-value]


def targets(graph: torch.fx.GraphModule) -> list[str]:
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    return [name.split("::")[-1].removeprefix("tautomer.") for name in names]


def used(function: Callable[..., Any], *inputs: torch.Tensor) -> tuple[list[str], list[Remark]]:
    """The operators after the change, which computes the same; and the remarks."""
    graph = exported(function, *inputs)
    right = graph(*inputs)
    remarks = use_kernels(graph)
    got = graph(*inputs)
    torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-5)
    ours = ("_v1", "norm", "softmax", "gelu")
    return [name for name in targets(graph) if any(one in name for one in ours)], remarks


def rows(*shape: int) -> torch.Tensor:
    torch.manual_seed(len(shape))
    return torch.randn(*shape)


def with_sigmoid(x: torch.Tensor, cubic: float = 0.044715) -> torch.Tensor:
    """The GELU with tanh as the passes write it for inductor."""
    return x * torch.sigmoid((x + x * x * x * cubic) * 1.5957691669464111)


X, W, B = rows(5, ROW), rows(ROW), rows(ROW)
CASES: list[tuple[str, Callable[..., Any], tuple[torch.Tensor, ...], str]] = [
    (
        "layer_norm",
        lambda x, w, b: functional.layer_norm(x, (ROW,), w, b),
        (X, W, B),
        "layer_norm_v1.default",
    ),
    ("no affine", lambda x: functional.layer_norm(x, (ROW,)), (X,), "layer_norm_v1.default"),
    ("rms_norm", lambda x, w: functional.rms_norm(x, (ROW,), w, 1e-6), (X, W), "rms_norm_v1.default"),
    ("softmax", lambda x: torch.softmax(x, -1), (X,), "softmax_v1.default"),
    ("log_softmax", lambda x: torch.log_softmax(x, 1), (X,), "log_softmax_v1.default"),
    (
        "residual",
        lambda x, r, w: functional.rms_norm(x + r, (ROW,), w, 1e-6),
        (X, rows(5, ROW) + 1, W),
        "add_rms_norm_v1.default",
    ),
    ("by itself", lambda x: functional.gelu(x), (X,), "gelu_v1.default"),
    (
        "between products",
        lambda x, w, v: functional.gelu((x @ w).view(5, 1, ROW), approximate="tanh").view(5, ROW) @ v,
        (X, rows(ROW, ROW), rows(ROW, 2)),
        "gelu_tanh_v1.default",
    ),
    (
        "between products, with a sigmoid",
        lambda x, w, v: with_sigmoid(x @ w) @ v,
        (X, rows(ROW, ROW), rows(ROW, 2)),
        "gelu_tanh_v1.default",
    ),
    (
        "gated",
        lambda x, w, v, u: (functional.silu(x @ w) * (x @ v)) @ u,
        (X, rows(ROW, ROW), rows(ROW, ROW) + 1, rows(ROW, 2)),
        "swiglu_v1.default",
    ),
]


@pytest.mark.parametrize(("function", "inputs", "target"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_used(function: Callable[..., Any], inputs: tuple[torch.Tensor, ...], target: str) -> None:
    names, remarks = used(function, *inputs)
    assert names == [target]
    assert [one.kind for one in remarks] == ["passed"]


def test_the_sum_goes_on() -> None:
    def block(x: torch.Tensor, r: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> Any:
        total = x + r
        doubled = total * 2.0  # reads the sum before the norm does
        return functional.layer_norm(total, (ROW,), w, b) + total, doubled

    names, _ = used(block, X, X + 1, W, B)
    assert names == ["add_layer_norm_v1.default"]


def test_a_norm_that_gains_where_the_sum_with_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops_gains, "_LEAST", {"float32": {"rms_norm": (1, 1)}})
    residual = next(case for case in CASES if case[0] == "residual")
    assert used(*residual[1:2], *residual[2])[0] == ["rms_norm_v1.default"]


def test_a_scale_that_is_computed_later_leaves_the_addition() -> None:
    def block(x: torch.Tensor, r: torch.Tensor, w: torch.Tensor) -> Any:
        total = x + r
        return functional.rms_norm(total, (ROW,), w * total[0], 1e-6)

    assert used(block, X, X + 1, W)[0] == ["rms_norm_v1.default"]


def test_a_sum_that_is_changed_in_place_is_not_fused() -> None:
    def block(x: torch.Tensor, r: torch.Tensor, w: torch.Tensor) -> Any:
        total = x + r
        total.mul_(2.0)
        return functional.rms_norm(total, (ROW,), w, 1e-6)

    assert used(block, X, X + 1, W)[0] == ["rms_norm_v1.default"]


LEFT: list[tuple[Callable[..., Any], tuple[torch.Tensor, ...], str]] = [
    (lambda x: torch.softmax(x, 0), (X,), "not along the last axis"),
    (lambda x: torch.softmax(x, -1, dtype=torch.float64), (X,), "changes the type"),
    (lambda x: functional.layer_norm(x, (5, ROW)), (X,), "several axes"),
    (lambda x: functional.rms_norm(x, (ROW,)), (X,), "epsilon is left"),
    (lambda x: functional.layer_norm(x, (ROW,)), (X.double(),), "no kernel from float64"),
    (lambda x, w: functional.gelu(x * 2.0) @ w, (X, rows(ROW, ROW)), "fuses it"),
    (lambda x, w: functional.gelu(x @ w) + 1.0, (X, rows(ROW, ROW)), "fuses it with"),
    (lambda x, w: functional.gelu(x @ w) * (x + 1.0), (X, rows(ROW, ROW)), "fuses it with what is"),
]


@pytest.mark.parametrize(("function", "inputs", "reason"), LEFT, ids=[one[2] for one in LEFT])
def test_left_alone(function: Callable[..., Any], inputs: tuple[torch.Tensor, ...], reason: str) -> None:
    names, remarks = used(function, *inputs)
    assert len(names) == 1 and "_v1" not in names[0]
    assert remarks and all(one.kind == "missed" and reason in one.reason for one in remarks)


class Gated(nn.Module):
    """A residual norm, then a gated unit between products."""

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = functional.rms_norm(x + x.relu(), (x.shape[-1],), None, 1e-6)
        return (functional.silu(y @ w) * (x @ w)) @ w


def test_an_open_number_of_rows_is_no_obstacle() -> None:
    rows_open = ({0: torch.export.Dim("n", min=2, max=64)}, {})
    graph = torch.export.export(Gated(), (X, rows(ROW, ROW)), dynamic_shapes=rows_open).module()
    remarks = use_kernels(graph)  # type: ignore[arg-type]
    assert [one.reason for one in remarks] == ["as add_rms_norm_v1", "as swiglu_v1"]
    for count in (2, 5, 17):
        given = rows(count, ROW), rows(ROW, ROW)
        torch.testing.assert_close(graph(*given), Gated()(*given), rtol=1e-5, atol=1e-5)


def test_rows_of_open_length_are_left_to_inductor() -> None:
    size = torch.export.Dim("n", min=2, max=64)
    model = nn.Softmax(-1)
    graph = torch.export.export(model, (X,), dynamic_shapes=({1: size},)).module()
    remarks = use_kernels(graph)  # type: ignore[arg-type]
    assert ["length of its rows is not known" in one.reason for one in remarks] == [True]


def test_small_tensors_are_left_to_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names, remarks = used(lambda x: torch.softmax(x, -1), X)
    assert names == ["aten.softmax.int"]
    assert "as fast of float32 forward below" in remarks[0].reason
    assert no_gain("softmax", "float32", 1 << 24, trains=True) == ""
    assert "no gain" in no_gain("silu", "float32", 1 << 24, trains=True)
    assert "no gain" in no_gain("softmax", "float16", 1 << 24, trains=True)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_in_a_compiled_model(training: bool) -> None:
    torch._dynamo.reset()
    block = nn.Sequential(nn.LayerNorm(ROW), nn.Linear(ROW, ROW), nn.GELU("tanh"), nn.Linear(ROW, ROW))
    seen: list[list[Remark]] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        captured = torch.fx.experimental.proxy_tensor.make_fx(
            lambda *given: torch.fx.Interpreter(graph).run(*given), pre_dispatch=True
        )(*inputs)
        seen.append(use_kernels(captured))
        return aot_eager(captured, inputs)

    compiled = torch.compile(block, backend=backend)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(compiled(X), block(X), rtol=1e-5, atol=1e-5)
        assert [one.reason for one in seen[0]] == ["as layer_norm_v1", "as gelu_tanh_v1"]
        if training:
            compiled(X).square().sum().backward()
            got = [one.grad.clone() for one in block.parameters() if one.grad is not None]
            block.zero_grad()
            block(X).square().sum().backward()
            for a, b in zip(got, block.parameters(), strict=True):
                torch.testing.assert_close(a, b.grad, rtol=1e-4, atol=1e-4)


def read_on_the_way(x: torch.Tensor) -> torch.Tensor:
    cube = x * x * x
    return x * torch.sigmoid((x + cube * 0.044715) * 1.5957691669464111) + cube


MISSES: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: with_sigmoid(x, 0.044716),
    lambda x: x.abs() * torch.sigmoid((x + x * x * x * 0.044715) * 1.5957691669464111),
    lambda x: x * torch.sigmoid((x + x * x * 0.044715) * 1.5957691669464111),
    lambda x: x * torch.sigmoid(torch.add(x, x * x * x * 0.044715, alpha=2) * 1.5957691669464111),
    read_on_the_way,
]


@pytest.mark.parametrize("function", MISSES, ids=["cubic", "factor", "square", "alpha", "read on the way"])
def test_products_with_a_sigmoid_that_are_no_gelu(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert used(lambda x, w, v: function(x @ w) @ v, X, rows(ROW, ROW), rows(ROW, 2)) == ([], [])


def test_a_gelu_with_a_sigmoid_that_inductor_fuses_is_left_alone() -> None:
    names, remarks = used(lambda x, w: with_sigmoid(x @ w) + 1.0, X, rows(ROW, ROW))
    assert names == []
    assert ["fuses it with" in one.reason for one in remarks] == [True]


@pytest.mark.parametrize("spelling", ["tanh", "by hand"])
def test_the_backend_places_the_kernel_of_a_gelu_with_tanh(
    spelling: str, fresh_dynamo: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_hand(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))

    block = nn.Sequential(nn.Linear(ROW, ROW), nn.GELU("tanh"), nn.Linear(ROW, ROW))
    if spelling == "by hand":
        block[1].forward = by_hand  # type: ignore[method-assign]
    handed: list[torch.fx.GraphModule] = []

    def kept(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        handed.append(graph)
        return graph

    monkeypatch.setattr(backend, "lookup_backend", lambda then: kept)  # takes inductor's place
    with torch.no_grad():
        compiled = torch.compile(block, backend=backend.tautomer, options={"strict": True})
        torch.testing.assert_close(compiled(X), block(X), rtol=1e-5, atol=1e-5)
    assert targets(handed[0]) == ["aten.linear.default", "gelu_tanh_v1.default", "aten.linear.default"]
