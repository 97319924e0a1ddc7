"""Dynamo graphs as ATen: what is kept, what is written back, and what is refused with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from backend_models import Block
from torch import nn
from torch.utils.checkpoint import checkpoint

from tautomer.errors import InputError
from tautomer.runtime.torch.capture import capture

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

F = nn.functional


def captured(function: Callable[..., Any], *args: Any, dynamic: bool | None = None) -> list[Any]:
    """What each graph of a function is captured as, or the reason why it is not; the result stays right."""
    found: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        before = graph.print_readable(print_output=False)
        try:
            found.append(capture(graph, inputs))
        except InputError as error:
            found.append(str(error))
        assert graph.print_readable(print_output=False) == before
        run = found[-1] if isinstance(found[-1], torch.fx.GraphModule) else graph
        return torch._dynamo.lookup_backend("aot_eager")(run, inputs)

    torch.manual_seed(1)
    expected = function(*args)
    torch.manual_seed(1)
    result = torch.compile(function, backend=backend, dynamic=dynamic)(*args)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    return found


def targets(graph: torch.fx.GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def test_every_spelling_of_softmax_is_one_operator() -> None:
    def three(x: torch.Tensor) -> torch.Tensor:
        return F.softmax(x, -1) + x.softmax(-1) + torch.softmax(x, dim=-1)

    (graph,) = captured(three, torch.randn(2, 3))
    assert targets(graph).count("aten.softmax.int") == 3


def test_norms_and_activations_stay_whole_and_differentiable() -> None:
    block, x = Block(), torch.randn(2, 16, requires_grad=True)
    (graph,) = captured(block, x)
    assert {"aten.layer_norm.default", "aten.gelu.default", "aten.linear.default"} <= set(targets(graph))


def test_inputs_keep_the_names_and_sources_of_dynamo() -> None:
    block = Block()
    (graph,) = captured(block, torch.randn(2, 16))
    placeholders = graph.graph.find_nodes(op="placeholder")
    assert any("norm" in node.name for node in placeholders)
    assert all(node._dynamo_source is not None for node in placeholders)


@pytest.mark.parametrize("value", [0.0, 1.5, float("inf"), float("nan"), -0.0])
def test_a_lifted_literal_becomes_a_node(value: float) -> None:
    def fills(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[..., :1] = value
        return F.layer_norm(y, (4,)).nan_to_num(3.0)

    (graph,) = captured(fills, torch.randn(2, 4))
    assert "aten.full.default" in targets(graph)
    assert not graph.graph.find_nodes(op="get_attr") and not list(graph.buffers())


def test_a_literal_of_several_elements_is_fresh_in_every_call() -> None:
    def counts(x: torch.Tensor) -> torch.Tensor:
        steps = torch.tensor([1.0, 2.0])
        steps += x
        return steps.clone()

    (graph,) = captured(counts, torch.ones(2))
    assert not graph.graph.find_nodes(op="get_attr")
    again = torch.compile(counts, backend="eager")
    for _ in range(2):
        assert torch.equal(graph(torch.ones(2))[0], again(torch.ones(2)))


def test_a_long_literal_is_refused() -> None:
    long = list(range(2000))
    (reason,) = captured(lambda x: x + torch.tensor(long), torch.ones(2000))
    assert "2000 elements" in reason


def test_autocast_inside_stays_and_outside_is_seen_in_the_types() -> None:
    linear, x = nn.Linear(4, 4), torch.randn(2, 4)

    def inside(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return linear(x)

    (graph,) = captured(inside, x)
    assert sum("autocast" in name for name in targets(graph)) == 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (graph,) = captured(lambda x: linear(x) * 2, x)
    (node,) = graph.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default)
    assert node.meta["val"].dtype == torch.bfloat16


def test_regions_without_gradients_stay() -> None:
    def part(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scale = x.sum()
        return x * scale

    (graph,) = captured(part, torch.randn(2, 4, requires_grad=True))
    assert sum("set_grad_enabled" in name for name in targets(graph)) == 2


def test_sizes_stay_symbols() -> None:
    (graph,) = captured(lambda x: x.reshape(x.shape[0] * 2, -1), torch.randn(6, 4), dynamic=True)
    assert any("sym_size" in name or "mul" in name for name in targets(graph))
    assert not any(node.args[1][0] == 12 for node in graph.graph.nodes if "reshape" in str(node.target))


def test_mutations_while_tracing_leave_no_marks_on_the_inputs() -> None:
    def updates(x: torch.Tensor, running: torch.Tensor) -> torch.Tensor:
        running.mul_(0.5).add_(x.mean(0))  # makes the traced buffer one that requires gradients
        return x * 2

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        return torch._dynamo.lookup_backend("aot_eager")(capture(graph, inputs), inputs)

    x, buffers = torch.randn(3, 4, requires_grad=True), [torch.ones(4), torch.ones(4)]
    expected = updates(x, buffers[0])
    result = torch.compile(updates, backend=backend)(x, buffers[1])
    assert torch.equal(*buffers) and torch.equal(result, expected)


def checkpointed(x: torch.Tensor) -> torch.Tensor:
    return checkpoint(F.gelu, x, use_reentrant=False)


def batched(x: torch.Tensor) -> torch.Tensor:
    return torch.vmap(F.gelu)(x)


def differentiated(x: torch.Tensor) -> torch.Tensor:
    return torch.func.grad(lambda y: F.gelu(y).sum())(x)


class Doubled(torch.autograd.Function):
    """An identity whose gradient is not the one of its forward part."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * gradient


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (checkpointed, "higher-order operator tag_activation_checkpoint"),
        (Doubled.apply, "higher-order operator autograd_function_apply"),
        (batched, "differentiates or batches"),
        (differentiated, "an effect that tracing does not keep"),
    ],
)
def test_what_tracing_would_lose_is_refused(function: Callable[..., Any], reason: str) -> None:
    (said,) = captured(function, torch.randn(3, 4, requires_grad=True))
    assert reason in said


def test_sizes_that_depend_on_data_are_refused() -> None:
    def picks(x: torch.Tensor) -> torch.Tensor:
        return x[x > 0].sum()

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        (said,) = captured(picks, torch.randn(8))
    assert "depends on data" in said


def test_an_operator_that_cannot_be_traced_is_named() -> None:
    graph = torch.fx.symbolic_trace(lambda x: x + 1)
    with pytest.raises(InputError, match="no tracing context"):
        capture(graph, [torch.ones(2)])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float16, torch.int8])
def test_other_element_types_are_captured(dtype: torch.dtype) -> None:
    (graph,) = captured(lambda x: x + x, torch.ones(3, dtype=dtype))
    assert graph.graph.find_nodes(op="placeholder")[0].meta["val"].dtype == dtype
