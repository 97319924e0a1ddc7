"""Sparse linear maps under torch.compile: where they are put, what they leave out, weights that change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from tautomer.runtime.torch import backend, sparse_use
from tautomer.runtime.torch.sparse_library import attach_sparse, sparse_operator

WIDTH, NEURONS = 40, 96
ACTIVATIONS: dict[str, tuple[Any, bool]] = {
    "relu": (lambda g, u: torch.relu(g), False),
    "reglu": (lambda g, u: functional.relu(g) * u, True),
    "squared gate": (lambda g, u: u * functional.relu(g).square(), True),
    "threshold": (lambda g, u: torch.where(g > 0.1, g, 0.0) * u, True),
}


class Layer(torch.nn.Module):
    """Two projections, an activation, and one back."""

    def __init__(self, activation: Any, bias: bool = True) -> None:
        super().__init__()
        self.activation = activation
        self.gate = torch.nn.Linear(WIDTH, NEURONS, bias)
        self.up = torch.nn.Linear(WIDTH, NEURONS, bias)
        self.down = torch.nn.Linear(NEURONS, WIDTH, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.down(self.activation(self.gate(x), self.up(x)))
        return result


@pytest.fixture
def said_with_inductor(monkeypatch: pytest.MonkeyPatch, kernels: None, fresh_dynamo: None) -> list[Any]:
    """The remarks; matrices of any size are taken."""
    remarks: list[Any] = []

    def recorded(*given: Any) -> list[Any]:
        found = sparse_use.use_sparse(*given)
        remarks.extend(found)
        return found

    monkeypatch.setattr(sparse_use, "LEAST", 1)
    monkeypatch.setattr(backend, "use_sparse", recorded)
    return remarks


@pytest.fixture
def said(said_with_inductor: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The same, with nothing compiled: quick, where inductor's code is not what is asked for."""
    eager = backend.lookup_backend("aot_eager")
    monkeypatch.setattr(backend, "lookup_backend", lambda _: lambda graph, inputs, **_: eager(graph, inputs))
    return said_with_inductor


@torch.no_grad()
def test_inductor_takes_the_operators(said_with_inductor: list[Any]) -> None:
    model = Layer(ACTIVATIONS["reglu"][0]).eval()
    x = torch.randn(2, WIDTH)
    done = torch.compile(model, backend="tautomer")(x)
    torch.testing.assert_close(done, model(x), rtol=1e-4, atol=1e-5)
    assert [one.kind for one in said_with_inductor] == ["passed"]


@torch.no_grad()
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_products_behind_zeros_are_sparse(name: str, said: list[Any]) -> None:
    activation, gated = ACTIVATIONS[name]
    model = Layer(activation, bias=name != "reglu").eval()
    compiled = torch.compile(model, backend="tautomer")
    x = torch.randn(1, 2, WIDTH)
    expected = model(x)
    # sums of some hundred products in another order
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)
    assert [one.kind for one in said] == ["passed"]
    assert said[0].reason.endswith("two weights" if gated else "its weight")


@torch.no_grad()
def test_new_weights_are_seen_and_weights_that_are_not_finite(said: list[Any]) -> None:
    model = Layer(ACTIVATIONS["reglu"][0]).eval()
    compiled = torch.compile(model, backend="tautomer")
    x = torch.randn(1, WIDTH)
    compiled(x)
    model.down.weight.mul_(2.0)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    zero = int((model.gate(x) <= 0).nonzero()[0, 1])
    for weight in (model.down.weight[:, zero], model.up.weight[zero]):
        kept = weight.clone()
        weight.fill_(float("inf"))
        expected = model(x)
        assert expected.isnan().all()  # 0 * inf
        torch.testing.assert_close(compiled(x), expected, equal_nan=True)
        weight.copy_(kept)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    assert len(said) == 1


@torch.no_grad()
@pytest.mark.parametrize(
    ("activation", "rows", "reason"),
    [
        (functional.gelu, 1, None),
        (torch.relu, 5, "its 5 rows meet nearly every neuron"),
    ],
)
def test_what_stays(activation: Any, rows: int, reason: str | None, said: list[Any]) -> None:
    model = Layer(lambda g, u: activation(g)).eval()
    x = torch.randn(rows, WIDTH)
    torch.testing.assert_close(torch.compile(model, backend="tautomer")(x), model(x))
    assert [one.kind for one in said] == ([] if reason is None else ["missed"])
    assert all(one.reason.startswith(reason) for one in said)


def test_training_stays_with_torch(said: list[Any]) -> None:
    model = Layer(ACTIVATIONS["relu"][0])
    torch.compile(model, backend="tautomer")(torch.randn(1, WIDTH)).sum().backward()
    assert not said
    assert model.down.weight.grad is not None


@torch.no_grad()
def test_the_operators_read_only_what_is_met(kernels: None) -> None:
    assert attach_sparse("float32") == ""
    h = torch.relu(torch.randn(2, 1, NEURONS))
    h[..., 5] = 0.0
    rows = torch.randn(NEURONS, WIDTH) / 10
    expected = h @ rows
    rows[5] = float("nan")
    run, yes = sparse_operator(gated=False), torch.tensor(True)
    torch.testing.assert_close(run(h, rows, None, yes), expected, rtol=1e-4, atol=1e-5)
    assert run(h, rows, None, ~yes).isnan().all()
    assert run(h[:0], rows, None, yes).shape == (0, 1, WIDTH)
    with pytest.raises(RuntimeError, match="do not fit"):
        run(h[..., 1:], rows, None, yes)
    with pytest.raises(RuntimeError, match="two types"):
        run(h, rows.double(), None, yes)
