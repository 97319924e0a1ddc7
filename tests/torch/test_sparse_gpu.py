"""Sparse linear maps on GPUs, as far as they are seen without one: where they are put, what is launched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from functorch.compile import aot_function
from torch import fx

from tautomer.runtime.torch import sparse_use
from tautomer.runtime.torch.compat import FakeTensorMode
from tautomer.runtime.torch.sparse_cuda import attach_sparse_cuda
from tautomer.runtime.torch.sparse_library import sparse_operator

pytest.importorskip("triton", reason="there is no triton")
aten = torch.ops.aten
NEURONS, OUTPUTS, INPUTS = 1024, 512, 256


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        yield mode


class Seen(Exception):
    """Carries a graph out of a compiler."""


def on_gpu(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


def launches(*arguments: torch.Tensor) -> list[dict[str, Any]]:
    """What a compiler is to launch for an operator."""
    run = sparse_operator(gated=len(arguments) > 4)

    def stop(graph: fx.GraphModule, _: Any) -> fx.GraphModule:
        raise Seen(graph)  # it cannot be run

    with pytest.raises(Seen) as seen:
        aot_function(lambda *given: run(*given), fw_compiler=stop)(*arguments)
    return [
        node.kwargs["kwargs"]
        for node in seen.value.args[0].graph.nodes
        if node.target is torch.ops.higher_order.triton_kernel_wrapper_functional
    ]


def weights() -> tuple[torch.Tensor, ...]:
    return on_gpu(NEURONS, OUTPUTS), on_gpu(OUTPUTS), on_gpu(dtype=torch.bool)


def test_a_compiler_sees_the_launches_and_not_the_operator(fake: FakeTensorMode) -> None:
    assert attach_sparse_cuda(on_gpu(1)) == ""
    first, last = launches(on_gpu(2, NEURONS), *weights())
    assert (first["neurons"], first["outputs"], last["elements"]) == (NEURONS, OUTPUTS, 2 * OUTPUTS)
    up = on_gpu(NEURONS, INPUTS), on_gpu(NEURONS)
    dots, first, last = launches(on_gpu(1, INPUTS), on_gpu(1, NEURONS), *up, *weights())
    assert (dots["inputs"], dots["neurons"]) == (INPUTS, NEURONS)
    assert "bias_ptr" in last


@pytest.mark.parametrize("rows", [0, 5])
def test_what_has_no_kernel_stays_an_operator(rows: int, fake: FakeTensorMode) -> None:
    attach_sparse_cuda(on_gpu(1))
    assert not launches(on_gpu(rows, NEURONS), *weights())


def layer() -> tuple[fx.GraphModule, list[fx.Node]]:
    """linear(relu(x), W, b) and its weights."""
    graph = fx.Graph()
    x, weight, bias = (graph.placeholder(name) for name in ("x", "weight", "bias"))
    h = graph.call_function(aten.relu.default, (x,))
    y = graph.call_function(aten.linear.default, (h, weight, bias))
    shapes = {x: (1, NEURONS), weight: (OUTPUTS, NEURONS), bias: (OUTPUTS,), h: (1, NEURONS), y: (1, OUTPUTS)}
    with FakeTensorMode():
        for node, shape in shapes.items():
            node.meta["val"] = on_gpu(*shape)
    graph.output(y)
    return fx.GraphModule({}, graph), [weight, bias]


def test_nothing_is_placed_on_a_device_where_no_gain_was_measured() -> None:
    (remark,) = sparse_use.use_sparse(*layer())
    assert remark.kind == "missed"
    assert "no gain on inductor's own code was measured" in remark.reason


def test_the_operator_is_placed_where_it_gains() -> None:
    module, parameters = layer()
    with mock.patch.object(sparse_use, "no_gain_on_gpu", return_value=""):
        (remark,) = sparse_use.use_sparse(module, parameters)
    assert remark.kind == "passed"
    (node,) = module.graph.find_nodes(op="call_function", target=sparse_operator(gated=False))
    assert node.meta["val"].shape == (1, OUTPUTS)
