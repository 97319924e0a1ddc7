"""Einstein's sums of a tensor and a constant become matrix products, as layers of polynomials write them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from residual_models import residual_model
from torch import Tensor, nn

import tautomer

SIZES = {"b": 5, "s": 4, "i": 3, "o": 6, "d": 7}


def model(equation: str, x: str, c: str, y: str, *, given: bool = False) -> ir.Model:
    """y of x and c, whose axes are the letters; c comes with the call where it is given."""

    def declared(name: str, letters: str) -> str:
        return f"float[{', '.join(str(SIZES[letter]) for letter in letters)}] {name}"

    body = f'n = Tanh (x)\n y = Einsum <equation = "{equation}"> (n, c)'
    if equation.startswith(c):
        body = body.replace("(n, c)", "(c, n)")
    inputs = declared("x", x) + (f", {declared('c', c)}" if given else "")
    weights = {} if given else {"c": tuple(SIZES[letter] for letter in c)}
    return residual_model(body, weights=weights, inputs=inputs, outputs=declared("y", y))


SUMS = {
    "polynomials": ("bid,iod->bo", "bid", "iod", "bo"),
    "a linear map": ("bsi,io->bso", "bsi", "io", "bso"),
    "turned": ("bsi,oi->bso", "bsi", "oi", "bso"),
    "the constant first": ("oid,bid->bo", "bid", "oid", "bo"),
    "with a vector": ("i,bsi->bs", "bsi", "i", "bs"),
    "to a number per row": ("bid,id->b", "bid", "id", "b"),
    "to heads": ("bi,iod->bod", "bi", "iod", "bod"),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_with_a_constant_is_one_product(name: str) -> None:
    result = tautomer.optimize(model(*SUMS[name]))
    found = Counter(node.op_type for node in result.model.graph)
    assert found["MatMul"] == 1 and not found["Einsum"] and not found["Transpose"]
    assert result.verification["verdict"] == "EQUAL"


MISSES = {
    "a batch of both": ("bsi,sio->bso", "bsi", "sio", "bso"),
    "an axis in front": ("ib,io->bo", "ib", "io", "bo"),
    "turned about": ("bsi,io->bos", "bsi", "io", "bos"),
    "several of both": ("bsid,ido->bso", "bsid", "ido", "bso"),
}


@pytest.mark.parametrize("name", MISSES)
def test_other_sums_stay_and_say_why(name: str) -> None:
    result = tautomer.optimize(model(*MISSES[name]))
    assert [(r.kind, r.rule) for r in result.remarks if r.rule == "lower einsum"] == [
        ("missed", "lower einsum")
    ]
    assert not result.changed


def test_a_sum_of_two_given_tensors_stays() -> None:
    assert not tautomer.optimize(model(*SUMS["polynomials"], given=True)).changed


def test_a_layer_of_chebyshev_polynomials_in_torch() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(SIZES["i"], SIZES["o"], 5))
            self.register_buffer("degrees", torch.arange(5.0))

        def forward(self, x: Tensor) -> Tensor:
            angles = torch.tanh(x).unsqueeze(-1).expand(-1, -1, 5).acos() * self.degrees
            return torch.einsum("bid,iod->bo", angles.cos(), self.weight)

    module, x = Layer().eval(), torch.randn(SIZES["b"], SIZES["i"])
    result = tautomer.optimize(module, (x,), target="inductor")
    assert result.after["aten.matmul.default"] == 1 and "aten.einsum.default" not in result.after
    torch.testing.assert_close(result.model(x), module(x), rtol=1e-5, atol=1e-5)  # sums of 15, reordered


def test_the_constant_is_arranged_and_not_rounded() -> None:
    source = model(*SUMS["polynomials"])
    held = source.graph.initializers["c"].const_value.numpy()
    (stored,) = (
        value.const_value.numpy()
        for value in tautomer.optimize(source).model.graph.initializers.values()
        if value.const_value.dtype == ir.DataType.FLOAT
    )
    assert np.array_equal(stored, held.transpose(0, 2, 1).reshape(-1, SIZES["o"]))
