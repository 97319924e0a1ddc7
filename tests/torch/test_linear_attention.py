"""Linear attention as reference code spells it takes the linear order in torch's graphs."""

from __future__ import annotations

import pytest
import torch
from fx_models import close, graph_of

from tautomer.runtime.torch.rewriting import rewrite_graph

ROWS, WIDTH = 80, 8


class NaLaFormer(torch.nn.Module):
    """Norm-aware linear attention in its quadratic form: the powers of queries depend on their norms."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        norm = q.norm(dim=-1, keepdim=True)
        power = 3.0 * (0.5 + torch.tanh(norm))
        q = torch.cat([(torch.relu(q) / norm) ** power, (torch.relu(-q) / norm) ** power], -1)
        k = k**3
        k = torch.cat([torch.relu(k), torch.relu(-k)], -1)
        scores = q @ k.transpose(-2, -1)
        return (scores / (scores.sum(-1, keepdim=True) + 1e-6)) @ v


class Soft(torch.nn.Module):
    """SOFT's chain of products behind Gaussian kernels of landmarks."""

    def forward(self, q: torch.Tensor, inverse: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        k = torch.exp(-(q[..., :24] ** 2) / 2)
        return (k @ inverse) @ (k.transpose(-2, -1) @ v)


def relu_between(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.relu(q @ k.transpose(-2, -1)) @ v


def causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.tril(torch.exp(q) @ torch.exp(k).transpose(-2, -1)) @ v


class Module(torch.nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.forward = function  # type: ignore[assignment]


def sample(*shapes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, *shape, generator=generator) for shape in shapes)


QKV = sample(*[(ROWS, WIDTH)] * 3)
LANDMARKS = sample((ROWS, 24), (24, 24), (ROWS, WIDTH))


@pytest.mark.parametrize(
    ("module", "example"), [(NaLaFormer(), QKV), (Soft(), LANDMARKS)], ids=["NaLaFormer", "SOFT"]
)
def test_reference_code_takes_the_cheaper_order(
    module: torch.nn.Module, example: tuple[torch.Tensor, ...]
) -> None:
    graph = graph_of(module, *example)
    done = rewrite_graph(graph, example)
    said = [remark.reason for remark in done.remarks if remark.rule == "reassociate"]
    assert len(said) == 1 and "in the place of" in said[0] and done.verification["verdict"] == "EQUAL"
    assert close(graph(*example), done.module(*example))


@pytest.mark.parametrize("function", [relu_between, causal])
def test_near_misses_are_refused_with_the_node(function: object) -> None:
    done = rewrite_graph(graph_of(Module(function), *QKV), QKV)
    said = [remark for remark in done.remarks if remark.rule == "reassociate"]
    assert (
        not done.changed
        and len(said) == 1
        and said[0].kind == "missed"
        and "between the products" in said[0].reason
    )


def test_gradients_flow_through_the_other_order() -> None:
    example = tuple(x.clone().requires_grad_() for x in QKV)
    torch.compiler.reset()
    fast = torch.compile(NaLaFormer(), backend="tautomer", options={"then": "aot_eager"})
    fast(*example).square().sum().backward()
    found = [x.grad for x in example]
    other = tuple(x.clone().requires_grad_() for x in QKV)
    NaLaFormer()(*other).square().sum().backward()
    # float32 sums of 80 terms, backwards and forwards: some dozens of roundings of the largest gradient
    assert all(
        float((a - b.grad).abs().max()) < 1e-5 * float(b.grad.abs().max())
        for a, b in zip(found, other, strict=True)
    )
