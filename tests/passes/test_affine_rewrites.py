"""Gains, biases, scales, products: folded, merged, deferred; verified equal, and near misses refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from residual_models import WIDTH, residual_model

import tautomer

STREAM = "float[batch, 4, 6] x"
NORM = "LayerNormalization <axis = -1, epsilon = 0.001>"
WEIGHTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("w", "v", "u"), (WIDTH, WIDTH)),
    **dict.fromkeys(("g", "b", "g1", "b1", "c", "d", "s"), (WIDTH,)),
    "wide": (WIDTH, 3 * WIDTH),
}
PARALLEL = f"""
    h = MatMul (x, w)
    n0 = {NORM} (h, g, b)
    n1 = {NORM} (h, g1, b1)
    p0 = MatMul (n0, v)
    p1 = Add (p0, c)
    q0 = MatMul (n1, u)
    q1 = Add (q0, d)
    t = Tanh (q1)
    y = Add (p1, t)
"""


def model(body: str, outputs: str = "float[batch, 4, 6] y", **options: Any) -> ir.Model:
    return residual_model(
        body, weights=options.pop("weights", WEIGHTS), inputs=STREAM, outputs=outputs, **options
    )


def operators(result: Any) -> Counter[str]:
    return Counter(node.op_type for node in result.model.graph)


def remarks(result: Any, rule: str, kind: str) -> list[str]:
    return [remark.reason for remark in result.remarks if (remark.rule, remark.kind) == (rule, kind)]


@pytest.mark.parametrize("norm", ["ln", "rms"])
def test_two_norms_of_one_tensor_become_one(norm: Any) -> None:
    result = tautomer.optimize(model(PARALLEL, opset=23), norm=norm)
    assert len(remarks(result, "merge norms", "passed")) == 2
    kind = "RMSNormalization" if norm == "rms" else "LayerNormalization"
    assert operators(result)[kind] == 1
    assert result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("n1 = LayerNormalization <axis = -1, epsilon = 0.001>", "n1 = LayerNormalization <axis = -1>", ""),
        ("q0 = MatMul (n1, u)", "n2 = Tanh (n1)\n q0 = MatMul (n2, u)", "(Tanh) reads it and is not linear"),
        ("q1 = Add (q0, d)", "q1 = Tanh (q0)", "have no bias"),
    ],
    ids=["another epsilon", "a nonlinear reader", "no bias to take its own"],
)
def test_norms_that_cannot_share_stay_two(old: str, new: str, said: str) -> None:
    assert old in PARALLEL
    result = tautomer.optimize(model(PARALLEL.replace(old, new), opset=23), norm="ln")
    assert operators(result)["LayerNormalization"] == 2
    missed = remarks(result, "merge norms", "missed")
    assert any(said in reason for reason in missed) if said else not missed


def test_a_bias_moves_into_the_biases_of_its_readers_and_not_past_others() -> None:
    body = f"h = MatMul (x, w)\n n = {NORM} (h, g, b)\n p = MatMul (n, v)\n y = Add (p, c)"
    folded = tautomer.optimize(model(body, opset=23), norm="rms")
    assert remarks(folded, "fold affine", "passed")
    assert operators(folded)["Add"] == 1
    kept = tautomer.optimize(model(body.replace("Add (p, c)", "Tanh (p)"), opset=23), norm="rms")
    assert "have no bias" in remarks(kept, "fold affine", "missed")[0]
    assert kept.verification["verdict"] == folded.verification["verdict"] == "EQUAL"


def test_a_bias_does_not_move_past_padding() -> None:
    body = f"""
        h = MatMul (x, w)
        n = {NORM} (h, g, b)
        k = Pad (n, pads)
        p = MatMul (k, v)
        y = Add (p, c)
    """
    padded = model(
        body,
        outputs="float[batch, 5, 6] y",
        weights={**WEIGHTS, "pads": (6,)},
        replace={"pads": np.array([0, 0, 0, 0, 1, 0], np.int64)},
    )
    result = tautomer.optimize(padded, norm="rms")
    assert "(Pad) reads it" in remarks(result, "fold affine", "missed")[0]
    assert result.verification["verdict"] == "EQUAL"


def test_gemm_takes_a_bias_through_its_transposed_weight() -> None:
    body = f"""
        h = MatMul (x, w)
        n = {NORM} (h, g, b)
        f = Reshape (n, flat)
        y = Gemm <transB = 1> (f, v, c)
    """
    flat = model(
        body,
        outputs="float[rows, 6] y",
        weights={**WEIGHTS, "flat": (2,)},
        replace={"flat": np.array([-1, WIDTH], np.int64)},
        opset=23,
    )
    result = tautomer.optimize(flat, norm="rms")
    assert remarks(result, "fold affine", "passed")
    assert operators(result)["Add"] == 0
    assert result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize("first", [True, False], ids=["scale * x", "x * scale"])
def test_a_scale_per_channel_folds_into_weight_and_bias(first: bool) -> None:
    product = "Mul (s, a)" if first else "Mul (a, s)"
    result = tautomer.optimize(model(f"m = MatMul (x, w)\n a = Add (m, c)\n y = {product}"))
    assert operators(result)["Mul"] == 0
    assert result.verification["verdict"] == "EQUAL"


def test_a_scale_whose_product_is_read_elsewhere_stays() -> None:
    body = "m = MatMul (x, w)\n a = Add (m, c)\n k = Mul (a, s)\n y = Add (k, a)"
    assert not tautomer.optimize(model(body)).changed


def test_a_scale_behind_an_activation_stays() -> None:
    assert not tautomer.optimize(model("m = MatMul (x, w)\n a = Tanh (m)\n y = Mul (a, s)")).changed


@pytest.mark.parametrize("norm", ["ln", "rms"])
@pytest.mark.parametrize("opset", [18, 23])
def test_a_deferred_norm_is_a_product_with_a_factor_per_row(norm: Any, opset: int) -> None:
    body = f"h = MatMul (x, w)\n n = {NORM} (h, g, b)\n p = MatMul (n, v)\n y = Add (p, c)"
    result = tautomer.optimize(model(body, opset=opset), norm=norm, defer_scale=True)
    name = "RowScaledMatMul" if norm == "rms" else "CentredRowScaledMatMul"
    assert operators(result)[name] == 1
    assert operators(result)["MatMul"] == 1
    assert result.verification["verdict"] == "EQUAL"


def test_a_norm_behind_which_something_is_not_linear_is_not_deferred() -> None:
    body = f"n = {NORM} (x, g, b)\n y = Tanh (n)"
    result = tautomer.optimize(model(body), norm="ln", defer_scale=True)
    assert not result.changed
    assert "(Tanh) reads it and is not linear" in remarks(result, "defer scale", "missed")[0]


def test_a_mean_over_tokens_keeps_a_norm_from_being_deferred() -> None:
    body = f"n = {NORM} (x, g, b)\n k = ReduceMean <axes = [1], keepdims = 0> (n)\n y = MatMul (k, v)"
    result = tautomer.optimize(
        model(body, outputs="float[batch, 6] y", opset=17), norm="ln", defer_scale=True
    )
    assert not result.changed


def test_products_of_one_tensor_become_one_when_it_is_asked_for() -> None:
    body = """
        a0 = MatMul (x, w)
        a = Add (a0, c)
        e0 = MatMul (x, wide)
        k0 = MatMul (x, v)
        k = Add (d, k0)
        y = Mul (a, k)
    """
    result = tautomer.optimize(model(body), merge_products=True)
    assert remarks(result, "merge products", "missed")  # `wide` is read by nobody's bias
    without = body.replace("e0 = MatMul (x, wide)", "")
    result = tautomer.optimize(model(without), merge_products=True)
    assert operators(result) == {"MatMul": 1, "Add": 1, "Split": 1, "Mul": 1}
    assert result.verification["verdict"] == "EQUAL"
    assert not tautomer.optimize(model(without)).changed


def test_a_growing_product_of_float16_weights_is_declined() -> None:
    body = "m = MatMul (x, w)\n y = Mul (m, s)"
    big = {"w": np.full((WIDTH, WIDTH), 600.0, np.float16), "s": np.full(WIDTH, 200.0, np.float16)}
    half = residual_model(
        body,
        weights=WEIGHTS,
        inputs="float16[batch, 4, 6] x",
        outputs="float16[batch, 4, 6] y",
        dtype=np.float16,
        replace=big,
    )
    result = tautomer.optimize(half, verify=False)
    assert not result.changed
    assert "beyond FLOAT16" in remarks(result, "fold scale", "missed")[0]
