"""What cannot be rewritten is compiled as it was, said aloud; `strict` makes it an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from backend_models import Block, Stream, close, compiled, tokens
from torch import nn
from torch.utils.checkpoint import checkpoint

from tautomer.runtime.torch import backend, trace

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

LOGGER = "tautomer.torch"


class Checkpointed(Stream):
    """A stream whose blocks are computed again in the backward pass."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return self.head(self.norm(x))


def _said(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == LOGGER and r.levelno >= level]


def test_activation_checkpointing_works_and_is_declined(caplog: pytest.LogCaptureFixture) -> None:
    model = Checkpointed()
    result = compiled(model, strict=False)(tokens())
    (line,) = _said(caplog)
    assert "graph 0/0 is compiled without Tautomer's rewrites" in line
    assert "tag_activation_checkpoint is not traced" in line
    close(result, model(tokens()))
    result.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_strict_raises() -> None:
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="tag_activation_checkpoint"):
        compiled(Checkpointed(), strict=True)(tokens())


def test_a_graph_that_does_not_compile_rewritten_is_compiled_as_it_was(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over = backend._hand_over
    seen: list[list[str]] = []

    def fails_at_first(graph: torch.fx.GraphModule, *rest: Any) -> Callable[..., Any]:
        seen.append([node.name for node in graph.graph.nodes])
        if len(seen) == 1:
            raise RuntimeError("no room")
        return hand_over(graph, *rest)

    monkeypatch.setattr(backend, "_hand_over", fails_at_first)
    model = Stream()
    close(compiled(model, strict=False)(tokens()), model(tokens()))
    assert len(seen) == 2 and seen[0] != seen[1]
    assert "RuntimeError: no room" in _said(caplog)[0]


@pytest.mark.parametrize("error", [IndexError, torch._dynamo.exc.TensorifyScalarRestartAnalysis])
def test_what_dynamo_waits_for_goes_through(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(backend, "capture", raises)
    graph = torch.fx.symbolic_trace(lambda x: x + 1)
    with pytest.raises(error):
        backend.tautomer(graph, [torch.ones(1)])


def test_an_error_of_the_model_stays_the_error_of_the_model(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(torch._dynamo.exc.TorchRuntimeError, match="linear"):
        compiled(nn.Linear(3, 4), strict=False)(torch.ones(2, 5))
    assert not _said(caplog)


def test_scalars_that_become_inputs(caplog: pytest.LogCaptureFixture) -> None:
    model = Stream()
    with caplog.at_level(logging.INFO, LOGGER):
        fast = compiled(model, dynamic=True)
        for rows in (2, 3, 7):
            close(fast(tokens(rows)), model(tokens(rows)))


class Sliding(nn.Module):
    """A number that changes in every call, as dynamo makes it an input of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.scale = Block(), 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x * self.scale) * self.scale


def test_numbers_that_change_between_calls() -> None:
    model, x = Sliding(), torch.randn(3, 16)
    fast = compiled(model, dynamic=True)
    for scale in (1.0, 0.5, 0.25, -3.0):
        model.scale = scale
        close(fast(x), model(x))


def test_a_graph_break_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Stream):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.blocks[0](self.embed(tokens))
            torch._dynamo.graph_break()
            return self.head(self.norm(self.blocks[1](x)))

    model = Broken()
    with caplog.at_level(logging.INFO, LOGGER):
        close(compiled(model)(tokens()), model(tokens()))
    assert any(
        "analysis graph break" in line and "graph_break()" in line for line in _said(caplog, logging.INFO)
    )


def test_remarks_and_graphs_go_to_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}

    def note(kind: str, metadata_fn: Callable[[], Any], payload_fn: Callable[[], str]) -> None:
        assert kind == "artifact"
        written[metadata_fn()["name"]] = payload_fn()

    monkeypatch.setattr(trace, "trace_structured", note)
    compiled(Stream())(tokens())
    assert {"tautomer_before_graph", "tautomer_remarks", "tautomer_after_graph"} == set(written)
    assert "layer_norm" in written["tautomer_before_graph"]
    assert any(remark["kind"] == "passed" for remark in json.loads(written["tautomer_remarks"]))


def test_a_graph_without_anything_to_do_is_handed_over_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(backend, "_hand_over", lambda graph, *_: given.append(graph) or graph.forward)
    entered: list[object] = []

    def note(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        entered.append(graph)
        return backend.tautomer(graph, inputs)

    torch.compile(lambda x: x @ x + 1, backend=note)(torch.ones(2, 2))
    assert given == entered


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.float64, torch.float16])
def test_other_element_types_work(dtype: torch.dtype) -> None:
    x = torch.ones(2, 3, dtype=dtype)

    def function(x: torch.Tensor) -> torch.Tensor:
        return (x * 2 + x).sum(-1)

    assert torch.equal(compiled(function)(x), function(x))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantized_and_meta_tensors_work() -> None:
    x = torch.quantize_per_tensor(torch.randn(2, 3), 0.1, 0, torch.qint8)
    assert torch.equal(compiled(lambda x: x.dequantize() * 2, strict=False)(x), x.dequantize() * 2)
    with torch.device("meta"):
        model, ids = Stream(), torch.zeros(2, 5, dtype=torch.int64)
    with torch.no_grad():
        result = compiled(model, "eager", strict=False)(ids)
    assert result.is_meta and result.shape == (2, 5, 32)


def test_control_flow_on_data_works() -> None:
    def branches(x: torch.Tensor) -> torch.Tensor:
        return x.exp() if x.sum() > 0 else x - 1

    fast = compiled(branches, strict=False)
    for x in (torch.ones(3), -torch.ones(3)):
        assert torch.equal(fast(x), branches(x))


def test_a_view_written_to_before_a_norm_keeps_its_order() -> None:
    norm = nn.LayerNorm(8)

    def scaled(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y.view(-1)[:8].mul_(3)
        y[..., :4] = 0.5
        return norm(y) + y

    x = torch.randn(2, 8)
    close(compiled(scaled)(x), scaled(x))


def test_two_inputs_that_are_one_storage() -> None:
    model = Block()

    def writes(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        return model(y)

    results = []
    for run in (writes, compiled(writes)):
        base = torch.linspace(-1, 1, 16).repeat(2, 1)
        results.append(run(base, base.view(2, 16)))
        results.append(run(base, base))
    close(results[2], results[0])
    close(results[3], results[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_the_types_it_gave(dtype: torch.dtype) -> None:
    model = Stream()
    fast = compiled(model)
    for grad in (torch.no_grad, torch.enable_grad):
        with torch.autocast("cpu", dtype=dtype), grad():
            expected, result = model(tokens()), fast(tokens())
        # both round every product to this type; a few of its units apart
        close(result, expected, 16)
