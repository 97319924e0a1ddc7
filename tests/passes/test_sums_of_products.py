"""Sums of products with a constant become matrix products: Fourier series, parameters that are factors."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from residual_models import residual_model
from torch import Tensor, nn

import tautomer

IN, OUT, TERMS = 3, 4, 5
FOURIER = """
    u = Reshape (x, apart)
    ku = Mul (k, u)
    c = Cos (ku)
    s = Sin (ku)
    cw = Mul (c, wc)
    sw = Mul (ws, s)
    yc = ReduceSum <keepdims = 0> (cw, terms)
    ys = ReduceSum <keepdims = 0> (sw, terms)
    y = Add (yc, ys)
"""


def model(body: str, outputs: str = "", **replace: Any) -> ir.Model:
    integers = {"apart": np.array([-1, 1, IN, 1]), "terms": np.array([-2, -1]), "last": np.array([3])}
    constants = {
        **integers,
        "k": np.arange(1, TERMS + 1, dtype=np.float32).reshape(1, 1, 1, TERMS),
        **replace,
    }
    weights = {name: array.shape for name, array in constants.items()}
    weights |= {"wc": (1, OUT, IN, TERMS), "ws": (OUT, IN, TERMS)}
    return residual_model(
        body,
        weights=weights,
        inputs=f"float[batch, {IN}] x",
        outputs=f"float[batch, {OUT}] y{outputs}",
        replace=constants,
    )


def missed(result: tautomer.Result) -> list[str]:
    return [r.reason for r in result.remarks if (r.rule, r.kind) == ("sums of products", "missed")]


def test_a_layer_of_fourier_series_is_two_products() -> None:
    result = tautomer.optimize(model(FOURIER))
    found = Counter(node.op_type for node in result.model.graph)
    assert found["MatMul"] == 2 and found["ReduceSum"] == 0 and found["Mul"] == 1
    assert result.verification["verdict"] == "EQUAL"


def test_products_that_are_read_elsewhere_stay() -> None:
    result = tautomer.optimize(model(FOURIER, f", float[batch, {OUT}, {IN}, {TERMS}] cw"))
    assert missed(result) == ["its products are read elsewhere, too"]
    assert Counter(node.op_type for node in result.model.graph)["ReduceSum"] == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(cw, terms)", "(cw, last)"),
        ("Mul (c, wc)", "Mul (c, c)"),
        ("keepdims = 0> (cw", "keepdims = 1> (cw"),
    ],
    ids=["over some axes", "of itself", "with its axes kept"],
)
def test_other_sums_stay(old: str, new: str) -> None:
    assert old in FOURIER
    tail = "\n    y = Add (yc, ys)"
    body = FOURIER.replace(old, new).replace(tail, "\n y = Identity (ys)\n z = Tanh (yc)")
    found = [node.op_type for node in tautomer.optimize(model(body, ", float[p, q, r] z")).model.graph]
    assert found.count("ReduceSum") == 1


BENT = """
    n = Tanh (x)
    u = Unsqueeze (n, one)
    p = Mul (u, k)
    r = {bend}
    y = ReduceSum <keepdims = 0> (r, two)
"""


def bent(body: str, bend: str) -> ir.Model:
    rows = {"one": np.array([1]), "two": np.array([2]), "k": np.random.default_rng(5).normal(size=(OUT, IN))}
    constants = {**rows, "k": rows["k"].astype(np.float32), "zero": np.float32(0.0), "half": np.float32(0.5)}
    weights = {name: np.shape(array) for name, array in constants.items()}
    inputs, outputs = f"float[batch, {IN}] x", f"float[batch, {OUT}] y"
    made = body.format(bend=bend)
    return residual_model(made, weights=weights, inputs=inputs, outputs=outputs, replace=constants)


@pytest.mark.parametrize("bend", ["Relu (p)", "Clip (p, zero)"])
def test_a_sum_of_rectified_products_is_two_products(bend: str) -> None:
    result = tautomer.optimize(bent(BENT, bend))
    found = Counter(node.op_type for node in result.model.graph)
    assert found["MatMul"] == found["Relu"] == 2 and found["ReduceSum"] == 0
    assert result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    ("body", "bend", "said"),
    [
        (BENT.replace("Tanh (x)", "Identity (x)"), "Relu (p)", ["what is multiplied may be infinite"]),
        (BENT, "Clip (p, half)", []),
        (BENT, "Clip (p, zero, half)", []),
    ],
    ids=["of what may be infinite", "another bound", "bounded above"],
)
def test_other_bends_stay(body: str, bend: str, said: list[str]) -> None:
    result = tautomer.optimize(bent(body, bend))
    assert [reason.partition(",")[0] for reason in missed(result)] == said
    assert [node.op_type for node in result.model.graph].count("ReduceSum") == 1


def test_a_torch_layer_whose_parameters_are_factors() -> None:
    class Skan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(OUT, IN))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sum(self.weight * torch.sin(x.unsqueeze(1)), dim=-1)

    module, x = Skan().eval(), torch.randn(6, IN)
    result = tautomer.optimize(module, (x,), target="inductor")
    assert result.after["aten.matmul.default"] == 1 and "aten.sum.dim_IntList" not in result.after
    assert result.verification["verdict"] == "EQUAL"
    torch.testing.assert_close(result.model(x), module(x))
