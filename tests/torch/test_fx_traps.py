"""What use-def edges do not show, and what ONNX has no word for: declined, with the reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fx_models import calls, close, graph_of
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from tautomer.graph.fx.in_place import without_local_writes
from tautomer.graph.fx.reader import read_fx
from tautomer.passes.pipeline import Choices
from tautomer.runtime.torch.rewriting import Rewritten, rewrite_graph

WIDTH = 32
TOKENS = torch.arange(21).reshape(3, 7)


class Block(nn.Module):
    """x = E[t]; x + a(n(x)); then what a test does with it, and o(n(x))."""

    def __init__(self, between: Callable[[torch.Tensor], Any] = lambda x: None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.e, self.a = nn.Embedding(50, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.n, self.m = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.o = nn.Linear(WIDTH, 5)
        self.register_buffer("seen", torch.zeros(3, 7, WIDTH))
        self.between = between
        for parameter in self.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        self.eval()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.e(tokens)
        x = x + self.a(self.n(x))
        self.between(x)
        result: torch.Tensor = self.o(self.m(x))
        return result


def _scaled_view(x: torch.Tensor) -> None:
    x.view(-1, WIDTH).mul_(1.7)


def _zeroed_part(x: torch.Tensor) -> None:
    x[..., :4] = 0.0


def _scaled(x: torch.Tensor) -> None:
    x.mul_(1.7)


def _scaled_through_dropout(x: torch.Tensor) -> None:
    nn.functional.dropout(x, 0.1, False).mul_(1.7)  # outside of training it gives back what it was given


def _rewritten(graph: torch.fx.GraphModule, *values: Any, **options: Any) -> Rewritten:
    done = rewrite_graph(graph, values, **{"weights": "fold", "asked": Choices("rms"), **options})
    with torch.no_grad():
        copies = [[x.clone() for x in values] for _ in range(2)]
        assert close(graph(*copies[0]), done.module(*copies[1]))
    return done


def test_without_a_trap_both_norms_are_converted() -> None:
    done = _rewritten(graph_of(Block(), TOKENS), TOKENS)
    assert calls(done.module, "rms_norm") == 2


@pytest.mark.parametrize("change", [_scaled_view, _zeroed_part, _scaled_through_dropout])
def test_a_norm_of_what_is_written_to_is_left_alone(change: Callable[[torch.Tensor], None]) -> None:
    done = _rewritten(graph_of(Block(change), TOKENS), TOKENS)
    assert calls(done.module, "layer_norm") == 2
    reasons = {r.node: r.reason for r in done.remarks if r.rule == "read"}
    assert "shares storage with something that the graph writes to" in reasons["layer_norm_1"]


def test_a_write_that_nobody_else_sees_is_a_value() -> None:
    done = _rewritten(graph_of(Block(_scaled), TOKENS), TOKENS)
    assert calls(done.module, "rms_norm") == 2 and calls(done.module, "mul_") == 0


def _several_writes(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    doubled = y + x  # before the write: the old value
    y.relu_()
    y += doubled
    y.mul_(0.5)
    return torch.cat([y.view(-1), doubled.view(-1)])


def test_readers_before_a_write_keep_the_old_value() -> None:
    graph = _traced(_several_writes, TOKENS.float())
    found = without_local_writes(graph)
    targets = [str(node.target) for node in found.graph.nodes]
    assert not any("_." in target for target in targets) and "aten.relu.default" in targets
    assert [node.name for node in found.graph.nodes] == [node.name for node in graph.graph.nodes]
    assert torch.equal(graph(TOKENS.float()), found(TOKENS.float()))


def _seen_through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    view = y.view(-1)
    y.relu_()
    return view + 1.0


def _of_the_input(x: torch.Tensor) -> torch.Tensor:
    return x.relu_() + 1.0


def _through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    y.view(-1).relu_()
    return y + 1.0


def _of_a_part(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    first, second = y.chunk(2, 1)
    first.relu_()
    return y + second.sum()


def _without_gradients(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    with torch.no_grad():
        y.mul_(3.0)
    return y + 1.0


def _of_another_type(x: torch.Tensor) -> torch.Tensor:
    y = x.to(torch.bfloat16) * 2.0
    y.add_(x)  # would be float32
    return y + 1.0


@pytest.mark.parametrize(
    "function",
    [
        *(_seen_through_a_view, _of_the_input, _through_a_view, _of_a_part),
        *(_without_gradients, _of_another_type),
    ],
)
def test_writes_that_somebody_else_sees_stay(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.randn(3, 4)
    graph = _traced(function, x)
    assert without_local_writes(graph) is graph


def test_a_gelu_of_what_is_written_to_is_left_alone() -> None:
    class Chain(Block):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.a(self.e(tokens))
            half = 0.5 * x
            x.view(-1, WIDTH).mul_(1.7)
            result: torch.Tensor = self.o(half * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3))))
            return result

    assert not _rewritten(graph_of(Chain(), TOKENS), TOKENS).changed


def test_a_buffer_that_keeps_the_stream_sees_its_mean() -> None:
    block = Block()
    block.between = lambda x: block.seen.copy_(x)  # type: ignore[assignment]
    graph = graph_of(block, TOKENS)
    done = _rewritten(graph, TOKENS)
    assert calls(done.module, "layer_norm") == calls(graph, "layer_norm")
    assert any("copy_" in r.reason for r in done.remarks if r.rule == "recentre")
    assert torch.equal(done.module.seen, graph.seen)  # type: ignore[arg-type]


def _traced(function: Callable[..., Any], *values: torch.Tensor) -> torch.fx.GraphModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_fx(function, pre_dispatch=True, tracing_mode="fake", _allow_non_fake_inputs=True)(*values)


def test_two_placeholders_may_be_one_storage() -> None:
    def twice(x: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        squares = x.pow(2).mean(-1, keepdim=True)
        same.mul_(2.0)
        return x * torch.rsqrt(squares + 1e-5)

    x = torch.randn(4, WIDTH)
    graph = _traced(twice, x, x.clone())
    apart = rewrite_graph(graph, [x, x.clone()], asked=Choices("rms"))
    together = rewrite_graph(graph, [x, x], asked=Choices("rms"))
    assert apart.changed and calls(apart.module, "rms_norm") == 1
    assert not together.changed


def test_python_numbers_are_not_rounded_to_the_tensor_type() -> None:
    def gelu(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))

    x = torch.randn(64, dtype=torch.bfloat16)
    done = rewrite_graph(_traced(gelu, x), [x], target="torch")
    assert calls(done.module, "gelu") == 1  # 0.044715 in bfloat16 is 0.0446777: no GELU
    wide = gelu(x.double())
    # one rounding to bfloat16, 2^-8, and the one of its argument inside
    assert torch.allclose(done.module(x).double(), wide, rtol=2.0**-7, atol=2.0**-9)


def test_arithmetic_on_several_types_is_torchs_own() -> None:
    def mixed(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x * scale * torch.rsqrt((x * scale).pow(2).mean(-1, keepdim=True) + 1e-5)

    values = torch.randn(4, WIDTH), torch.randn(WIDTH, dtype=torch.float64)
    fx = read_fx(_traced(mixed, *values))
    assert fx.declined["mul"] == "it computes on several element types"
    done = rewrite_graph(fx.module, values)
    assert done.module(*values).dtype == torch.float64


def test_an_epsilon_that_the_graph_computes_is_declined_with_that_reason() -> None:
    graph = _traced(lambda x: nn.functional.layer_norm(x, (WIDTH,), eps=1e-5), torch.randn(4, WIDTH))
    norm = next(node for node in graph.graph.nodes if "layer_norm" in node.name)
    with graph.graph.inserting_before(norm):
        epsilon = graph.graph.call_function(float, (1e-5,))
    norm.args, norm.kwargs = norm.args[:2], {"eps": epsilon}
    assert "its eps is a number that the graph computes" in read_fx(graph).declined["layer_norm"]


def test_opaque_nodes_stay_in_their_order() -> None:
    def noisy(x: torch.Tensor) -> torch.Tensor:
        torch.rand(2)  # nobody reads it, and the next one depends on it
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return y + torch.rand_like(y)

    x = torch.randn(4, WIDTH)
    graph = _traced(noisy, x)
    done = rewrite_graph(graph, [x])
    assert done.changed

    def drawn(module: torch.fx.GraphModule) -> list[str]:
        return [str(node.target) for node in module.graph.nodes if "rand" in str(node.target)]

    assert drawn(done.module) == drawn(graph) and len(drawn(graph)) == 2
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = graph(x)
        torch.manual_seed(1)
        assert close(before, done.module(x))


def test_a_region_without_gradients_is_left_alone() -> None:
    def partly(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            root = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return x * root  # gradients flow through x alone

    x = torch.randn(4, WIDTH, requires_grad=True)
    graph = _traced(partly, x)
    assert not rewrite_graph(graph, [x]).changed


def test_detach_is_no_identity() -> None:
    def partly(x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.detach().pow(2).mean(-1, keepdim=True) + 1e-5)

    x = torch.randn(4, WIDTH, requires_grad=True)
    assert not rewrite_graph(_traced(partly, x), [x]).changed


def test_fake_parameters_are_constants_without_a_value() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    block = Block()
    names = [name for name, _ in block.named_parameters()]

    def call(*values: torch.Tensor) -> Any:
        return torch.func.functional_call(block, dict(zip(names, values, strict=False)), values[-1:])

    real = [*block.parameters(), TOKENS]
    graph = _traced(call, *real)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(value) for value in real]
    done = rewrite_graph(graph, fake, asked=Choices("rms"))
    assert calls(done.module, "rms_norm") == 2
    with torch.no_grad():
        assert close(graph(*real), done.module(*real))


def test_float64_is_rewritten_to_its_own_precision() -> None:
    block = Block().double()
    names = [name for name, _ in block.named_parameters()]

    def call(*values: torch.Tensor) -> Any:
        return torch.func.functional_call(block, dict(zip(names, values, strict=False)), values[-1:])

    real = [*block.parameters(), TOKENS]
    graph = _traced(call, *real)
    done = rewrite_graph(graph, real, asked=Choices("rms"))
    assert calls(done.module, "rms_norm") == 2
    with torch.no_grad():
        # a few dozen roundings of 1e-16
        assert torch.allclose(graph(*real), done.module(*real), rtol=1e-12, atol=1e-12)


def test_a_norm_that_is_given_out_stays_in_training() -> None:
    """Its gradient may be mostly mean, which an RMS norm would pass on."""
    graph = graph_of(nn.Sequential(nn.Embedding(50, WIDTH), nn.LayerNorm(WIDTH)), TOKENS)
    done = _rewritten(graph, TOKENS, weights="graph")
    (reason,) = [r.reason for r in done.remarks if r.rule == "recentre"]
    assert "its result is an output" in reason and not done.changed
    assert calls(_rewritten(graph, TOKENS).module, "rms_norm") == 1
