"""Operators on GPUs, as far as they can be seen without one: fake tensors, and launches that are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from functorch.compile import aot_function
from torch import fx

from tautomer.codegen.torch.operators import Signature, backward, forward, kernel, operator_of
from tautomer.machine import DEVICES
from tautomer.runtime.torch import first_runs, ops_use
from tautomer.runtime.torch.compat import FakeTensor, FakeTensorMode
from tautomer.runtime.torch.ops_cuda import compute, no_kernel
from tautomer.runtime.torch.ops_library import attach_cuda
from tautomer.runtime.torch.ops_meaning import meaning
from tautomer.runtime.torch.ops_rules import overload
from tautomer.runtime.triton.grid import instead

pytest.importorskip("triton", reason="there is no triton")
aten = torch.ops.aten


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        yield mode


class Seen(Exception):
    """Carries a graph out of a compiler."""


def on_gpu(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


def launches(graph: fx.GraphModule) -> list[dict[str, Any]]:
    return [
        node.kwargs["kwargs"]
        for node in graph.graph.nodes
        if node.target is torch.ops.higher_order.triton_kernel_wrapper_functional
    ]


def lowered(signature: Signature, *arguments: Any) -> fx.GraphModule:
    """The graph that a compiler gets of an operator."""
    tensors = [one for one in arguments if isinstance(one, torch.Tensor)]
    run = overload(signature)

    def stop(graph: fx.GraphModule, _: Any) -> fx.GraphModule:
        raise Seen(graph)  # it cannot be run

    with pytest.raises(Seen) as seen:
        aot_function(lambda *given: run(*given, *arguments[len(tensors) :]), fw_compiler=stop)(*tensors)
    graph: fx.GraphModule = seen.value.args[0]
    return graph


def test_a_compiler_sees_the_launch_and_not_the_operator(fake: FakeTensorMode) -> None:
    operator = operator_of("rms_norm")
    x, scale = on_gpu(8, 768), on_gpu(768)
    assert attach_cuda(operator, x) == ""
    (launch,) = launches(lowered(kernel(operator), x, scale, 1e-5))
    assert {name: launch[name] for name in ("rows", "columns", "BLOCK")} == {
        "rows": 8,
        "columns": 768,
        "BLOCK": 1024,
    }
    (launch,) = launches(lowered(backward(operator), x, x, scale, 1e-5))
    assert {"of_scale_ptr", "y_ptr"} <= launch.keys()


def test_numbers_are_float32_in_a_kernel_whatever_a_compiler_passes() -> None:
    """Inductor passes a number in double precision, and sums that were float32 would be so from then on."""
    from tautomer.codegen.triton.kernel import triton_kernel

    for name in ("rms_norm", "silu"):
        text = triton_kernel(backward(operator_of(name)).program).text
        (number,) = backward(operator_of(name)).program.parameters
        assert f"{number} = tl.cast({number}, tl.float32)" in text


def test_rows_for_which_there_is_no_kernel_stay_an_operator(fake: FakeTensorMode) -> None:
    operator = operator_of("layer_norm")
    x, row = on_gpu(2, 1 << 16), on_gpu(1 << 16)
    assert "do not fit" in no_kernel(backward(operator), x)
    attach_cuda(operator, x)
    graph = lowered(backward(operator), x, x, row, 1e-5)
    assert not launches(graph)
    assert any(node.target is overload(backward(operator)) for node in graph.graph.nodes)


def test_types_without_a_kernel_are_told(fake: FakeTensorMode) -> None:
    assert "float64" in no_kernel(forward(operator_of("softmax")), on_gpu(2, 8, dtype=torch.float64))


def test_what_has_no_kernel_is_computed_by_torch() -> None:
    signature = forward(operator_of("softmax"))
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(compute(signature, (x,)), meaning(signature)(x))


def graph_of_norm(rows: Any) -> fx.GraphModule:
    """layer_norm(x) of 768 columns."""
    graph = fx.Graph()
    x, scale, bias = (graph.placeholder(name) for name in ("x", "scale", "bias"))
    x.meta["val"] = on_gpu(rows, 768)
    scale.meta["val"] = bias.meta["val"] = on_gpu(768)
    y = graph.call_function(aten.layer_norm.default, (x, [768], scale, bias, 1e-5))
    y.meta["val"] = on_gpu(rows, 768)
    graph.output(y)
    return fx.GraphModule({}, graph)


def test_nothing_is_placed_on_a_device_where_no_gain_was_measured(fake: FakeTensorMode) -> None:
    module = graph_of_norm(4)
    (remark,) = ops_use.use_kernels(module)
    assert remark.kind == "missed"
    assert "no gain on inductor's own code was measured" in remark.reason


def test_kernels_are_placed_whatever_the_number_of_rows(fake: FakeTensorMode) -> None:
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    fake.shape_env = ShapeEnv()
    rows = fake.shape_env.create_unbacked_symint()
    torch._check(rows > 1)
    module = graph_of_norm(rows)
    with mock.patch.object(ops_use, "no_gain_on_gpu", return_value=""):
        (remark,) = ops_use.use_kernels(module)
    assert remark.kind == "passed"
    assert any(node.target is overload(forward(operator_of("layer_norm"))) for node in module.graph.nodes)


def test_no_pass_changes_a_graph_for_inductor_on_a_gpu(fake: FakeTensorMode) -> None:
    """Norms take as long as reading and writing there, in any form; centring made training 7 % slower."""
    from tautomer.runtime.torch.backend import _by_passes
    from tautomer.runtime.torch.options import Options

    module = graph_of_norm(4)
    done = _by_passes(module, [on_gpu(4, 8)], Options())
    assert done.module is module and not done.changed
    assert "only kernels" in done.remarks[0].reason


def test_a_first_run_is_of_real_tensors_whatever_is_traced(
    fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def first_run(what: str, key: str, device: str, compute: Any, *, off: float) -> str:
        def seen(_: Any, arguments: Any) -> None:
            assert not any(isinstance(one, FakeTensor) or one.is_cuda for one in arguments[:3])

        with instead(seen):
            compute()
        tried.append(f"{what} on {device}")
        return "no"

    monkeypatch.setattr(first_runs, "first_run", first_run)
    monkeypatch.setattr(first_runs, "_is_here", lambda _: True)
    monkeypatch.setattr(first_runs, "device_here", lambda _: DEVICES["cuda:sm_90"])
    signature = forward(operator_of("add_layer_norm"))
    first_runs._of_rows.cache_clear()
    for _ in range(2):
        assert no_kernel(signature, on_gpu(7, 64)) == "no"
    first_runs._of_rows.cache_clear()
    assert tried == ["add_layer_norm_v1 of bfloat16 on cuda:0"]
