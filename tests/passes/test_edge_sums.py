"""Sums over the edges of a KAN layer become matrix products, as pykan has masks and scales for each edge."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from residual_models import residual_model

import tautomer
from tautomer.passes import edge_sums

IN, OUT, WIDTH = 3, 4, 5
LAYER = """
    base = Tanh (x)
    u = Unsqueeze (base, last)
    curve = Einsum <equation = "ijk,jlk->ijl"> (basis, coefficients)
    p = Mul (scale, u)
    q = Mul (curve, other)
    e = Add (p, q)
    f = Mul (mask, e)
    y = ReduceSum <keepdims = 0> (f, one)
"""


def model(body: str = LAYER, outputs: str = "", **weights: tuple[int, ...]) -> ir.Model:
    shapes = {
        "scale": (1, IN, OUT),
        "other": (IN, OUT),
        "mask": (1, IN, OUT),
        "coefficients": (IN, OUT, WIDTH),
    }
    shapes |= {"one": (1,), "last": (1,), **weights}
    inputs = f"float[batch, {IN}] x, float[batch, {IN}, {WIDTH}] basis"
    held = {"one": np.array([1]), "last": np.array([2])}
    wanted = f"float[batch, {OUT}] y{outputs}"
    return residual_model(body, weights=shapes, inputs=inputs, outputs=wanted, replace=held)


@pytest.mark.parametrize(
    "body",
    [
        LAYER,
        LAYER.replace("ijk,jlk->ijl", "bik,oik->bio").replace("(basis, c", "(basis, turned_c"),
        LAYER.replace("ijk,jlk->ijl", "jlk,ijk->ijl").replace(
            "(basis, coefficients)", "(coefficients, basis)"
        ),
    ],
    ids=["as pykan has it", "coefficients by output", "coefficients first"],
)
def test_a_layer_is_two_products(body: str) -> None:
    result = tautomer.optimize(model(body, turned_coefficients=(OUT, IN, WIDTH)))
    found = Counter(node.op_type for node in result.model.graph)
    assert found["MatMul"] == 2 and found["Add"] == 1 and found["Mul"] == found["Einsum"] == 0
    assert result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (LAYER, f", float[batch, {IN}, {OUT}] e"),
        (LAYER.replace("(f, one)", "(f, last)").replace("y =", "z =") + "y = MatMul (z, square)", ""),
        (LAYER.replace("q = Mul (curve, other)", "r = Tanh (curve)\n q = Mul (r, other)"), ""),
        (LAYER.replace("p = Mul (scale, u)", "p = Mul (row, u)"), ""),
    ],
    ids=["edges read elsewhere", "over outputs", "a function of a curve", "a scale per output"],
)
def test_other_sums_stay(body: str, outputs: str) -> None:
    result = tautomer.optimize(model(body, outputs, square=(IN, OUT), row=(1, 1, OUT)))
    assert Counter(node.op_type for node in result.model.graph)["ReduceSum"] == 1
    assert not [r for r in result.remarks if (r.rule, r.kind) == ("edge sums", "passed")]


def test_a_forgotten_mask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of the rule: the first constant of each term is left out."""
    right = edge_sums._product

    def wrong(work, b, term, shape):  # type: ignore[no-untyped-def]
        return right(work, b, edge_sums._Term(term.value, term.constants[1:], term.curves, term.order), shape)

    monkeypatch.setattr(edge_sums, "_product", wrong)
    (remark,) = (r for r in tautomer.optimize(model()).remarks if r.rule == "edge sums")
    assert "differ in exact arithmetic" in remark.reason
