"""Adapters in torch modules: one linear map in their place, in optimize, torch.compile and ONNX exports."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from adapters import Dora, EmbeddingLora, Ia3, Lora, pissa
from backend_models import compiled
from fx_models import close
from torch import Tensor, nn

import tautomer

IN, OUT = 12, 10
MODULES: dict[str, Callable[[], nn.Module]] = {
    "lora": lambda: Lora(nn.Linear(IN, OUT), 3),
    "rank-stabilised, no bias": lambda: Lora(nn.Linear(IN, OUT, bias=False), 3, rank_stabilised=True),
    "two adapters": lambda: Lora(nn.Linear(IN, OUT), 3, 2),
    "pissa": lambda: pissa(nn.Linear(IN, OUT), 4),
    "dora": lambda: Dora(nn.Linear(IN, OUT), 3),
}


class Behind(nn.Module):
    """An activation, whose result the adapted map reads."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(torch.tanh(x)))


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    return Behind(MODULES[name]()).eval(), torch.randn(2, 5, IN)


@pytest.mark.parametrize("name", MODULES)
def test_an_adapted_module_keeps_one_product(name: str) -> None:
    module, x = made(name)
    result = tautomer.optimize(module, (x,), target="inductor")
    products = [count for op, count in result.after.items() if "linear" in op or "matmul" in op or "mm" in op]
    assert sum(products) == 1, [r for r in result.remarks if r.rule == "merge adapters"]
    assert result.verification["verdict"] == "EQUAL" and close(module(x), result.model(x))


def test_adapters_in_float32_beside_a_matrix_in_half_precision_are_merged() -> None:
    torch.manual_seed(1)
    module = Lora(nn.Linear(IN, OUT).half(), 3).eval()
    x = torch.randn(5, IN).half()
    result = tautomer.optimize(module, (x,), target="inductor")
    left = {op.split(".")[1]: count for op, count in result.after.items() if "assert" not in op}
    assert left == {"matmul": 1, "add": 1} and result.verification["verdict"] == "EQUAL"
    found = result.model(x), module(x)
    exact = module.double()(x.double())
    after, before = (float((y.double() - exact).detach().abs().max()) for y in found)
    assert after <= 2.0 * before  # the matrix is rounded to half once more, the sum once less


def test_a_table_with_an_adapter_keeps_one_lookup() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(EmbeddingLora(nn.Embedding(14, OUT), 3), nn.Tanh()).eval()
    x = torch.randint(0, 14, (2, 5))
    result = tautomer.optimize(module, (x,), target="inductor")
    assert result.after == {"aten.embedding.default": 1, "aten.tanh.default": 1}
    assert result.verification["verdict"] == "EQUAL" and close(module(x), result.model(x))


def test_gains_of_ia3_go_into_linear_maps() -> None:
    torch.manual_seed(1)
    module, x = Ia3(OUT, IN).eval(), torch.randn(2, 5, OUT)
    result = tautomer.optimize(module, (x,), target="inductor")
    assert result.after["aten.mul.Tensor"] == 1 and result.verification["verdict"] == "EQUAL"
    assert close(module(x), result.model(x))


def test_convolutions_of_fixup_take_scales_and_get_biases() -> None:
    class Fixup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(3, 3, 1, bias=False) for _ in range(2))
            for name in ("before", "behind", "scale", "last"):
                self.register_parameter(name, nn.Parameter(torch.randn(1)))

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.first(x + self.before) + self.behind)
            return self.second(hidden) * self.scale + self.last + x

    module, x = Fixup().eval(), torch.randn(1, 3, 4, 4)
    result = tautomer.optimize(module, (x,), target="inductor")
    assert result.after["aten.add.Tensor"] == 1 and "aten.mul.Tensor" not in result.after
    assert result.verification["verdict"] == "EQUAL" and close(module(x), result.model(x))


def test_a_convolution_takes_its_adapter() -> None:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Conv2d(3, 4, 3, padding=1)
            self.lora_A = nn.Conv2d(3, 2, 3, padding=1, bias=False)
            self.lora_B = nn.Conv2d(2, 4, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.base_layer(x) + self.lora_B(self.lora_A(x)) * 0.75

    module, x = Adapted().eval(), torch.randn(1, 3, 5, 5)
    result = tautomer.optimize(module, (x,), target="inductor")
    assert result.after["aten.conv2d.default"] == 1 and "aten.add.Tensor" not in result.after
    assert result.verification["verdict"] == "EQUAL" and close(module(x), result.model(x))


@pytest.mark.usefixtures("fresh_dynamo")
def test_torch_compile_merges_before_the_first_call_and_after_each_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module, x = made("lora")
    with torch.no_grad(), caplog.at_level("INFO", logger="tautomer"):
        fast = compiled(module)
        assert close(module(x), fast(x))
        module.inner.lora_B["a0"].weight.mul_(2.0)
        assert close(module(x), fast(x))
    assert "an adapter of rank 3 is merged" in caplog.text
