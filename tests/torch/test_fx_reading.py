"""The table ATen <-> ONNX: spellings are recognised, and what was read is written back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fx_models import close, graph_of
from torch import nn
from torch.nn import functional

from tautomer.graph.fx.reader import read_fx
from tautomer.graph.fx.writer import write_fx
from tautomer.patterns.recognition.recognise import recognise
from tautomer.runtime.torch.rewriting import rewrite_graph

X = torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(1))
GAIN, BIAS = torch.linspace(0.5, 1.5, 32), torch.linspace(-1.0, 1.0, 32)
Function = Callable[[torch.Tensor], torch.Tensor]


class _Of(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def _rms(x: torch.Tensor) -> torch.Tensor:
    return GAIN * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def _rms_by_norm(x: torch.Tensor) -> torch.Tensor:
    return x / torch.sqrt(torch.square(x).sum(-1, keepdim=True) / 32 + 1e-6) * GAIN


def _layer_norm(x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * GAIN + BIAS


def _softmax(x: torch.Tensor) -> torch.Tensor:
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / 1.4142135623730951))


def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


SPELLINGS: list[tuple[str, Function, str]] = [
    ("RMSNormalization", _rms, "aten.rms_norm.default"),
    ("RMSNormalization", _rms_by_norm, "aten.rms_norm.default"),
    ("LayerNormalization", _layer_norm, "aten.layer_norm.default"),
    ("Softmax", _softmax, "aten.softmax.int"),
    ("Softmax", lambda x: functional.softmax(x, dim=1, dtype=torch.float32), "aten.softmax.int"),
    ("Gelu", _gelu, "aten.gelu.default"),
    ("Gelu", _gelu_tanh, "aten.gelu.default"),
    ("Gelu", lambda x: functional.gelu(x, approximate="tanh"), "aten.gelu.default"),
    ("Swish", lambda x: x * torch.sigmoid(x), "aten.silu.default"),
    ("Mish", lambda x: x * torch.tanh(functional.softplus(x)), "aten.mish.default"),
    ("LayerNormalization", lambda x: functional.layer_norm(x, (5, 32)), "aten.layer_norm.default"),
    ("LayerNormalization", lambda x: functional.layer_norm(x, (32,), None, BIAS), "aten.layer_norm.default"),
]


@pytest.mark.parametrize(("operation", "function", "written"), SPELLINGS)
def test_spellings_of_torch_are_recognised_and_written_as_one(
    operation: str, function: Function, written: str
) -> None:
    graph = graph_of(_Of(function), X)
    found = recognise(read_fx(graph).model).operations
    assert operation in [op.op for op in found]
    done = rewrite_graph(graph, [X], target="torch", weights="fold")
    calls = [str(node.target) for node in done.module.graph.nodes if node.op == "call_function"]
    assert written in calls and len(calls) == 1, done.module.code
    assert close(function(X), done.module(X))


MISSES: list[Function] = [
    lambda x: x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) / 33 + 1e-5),
    lambda x: x / (x.std(-1, keepdim=True) + 1e-5),
    lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * x**3))),
    lambda x: torch.exp(x) / torch.exp(x).sum(1, keepdim=True).sum(-1, keepdim=True),
]


@pytest.mark.parametrize("function", MISSES)
def test_near_misses_stay_as_they_are(function: Function) -> None:
    graph = graph_of(_Of(function), X)
    assert rewrite_graph(graph, [X], target="torch", weights="fold").module is graph


def _parts(x: torch.Tensor) -> torch.Tensor:
    a, b = x.split([8, 24], -1)
    c, d = b.chunk(2, -1)
    values, _ = torch.topk(x, 3)
    first, *_ = x.unbind(1)
    return torch.cat([a, c * d, values, first[:, None].expand(-1, 5, -1)], -1)


def _moved(x: torch.Tensor) -> torch.Tensor:
    y = x.transpose(1, 2).permute(0, 2, 1).unsqueeze(1).squeeze(1).flatten(1).unflatten(1, (5, 32))
    y = functional.pad(y, (1, 2, 0, 1), value=0.5).roll((1, -2), (1, 2))
    return y[:, 1:-1, ::2].contiguous() - y.select(2, 3)[:, 1:-1, None]


def _selected(x: torch.Tensor) -> torch.Tensor:
    y = torch.where(x > 0.25, x, 0.0).masked_fill(x < -1, 2.0).clamp(-0.5, 1.5)
    return (1.5 - y).maximum(x.abs()) * x.sign().to(torch.bfloat16).to(torch.float32)


def _indexed(x: torch.Tensor) -> torch.Tensor:
    rows, columns = (x[0, :2, :3] > 0).long(), (x[0, :1, :3] > 0).long() - 1
    y = functional.group_norm(x[:, :, columns[0]], 5)
    return y[:1, :1, 0] + x[rows, columns] + functional.group_norm(x, 1, x[0, :, 0], x[0, :, 1])[0, 0]


@pytest.mark.parametrize("function", [_parts, _moved, _selected, _indexed])
def test_what_was_read_means_the_same_and_is_written_back(function: Function) -> None:
    graph = graph_of(_Of(function), X, dynamic=({0: torch.export.Dim("batch", min=2, max=64)},))
    fx = read_fx(graph)
    assert not fx.declined
    written = write_fx(fx).module
    for x in (X, X[:2]):
        assert torch.equal(written(x), function(x))


@pytest.mark.parametrize("function", [_moved, _selected, _indexed])
def test_the_vocabulary_computes_what_torch_computes(function: Function) -> None:
    from tautomer.graph.semantics.mathematics import Float64
    from tautomer.verify.interpreter import run

    model = read_fx(graph_of(_Of(function), X)).model
    model.graph.outputs[:] = [value for value in model.graph.outputs if value.producer().domain != "fx"]
    (found,) = run(model, Float64(), {"x": X.numpy()}).values()
    # float64 beside float32: a handful of roundings of 6e-8
    assert torch.allclose(torch.from_numpy(found).float(), function(X), rtol=1e-6, atol=1e-6)
