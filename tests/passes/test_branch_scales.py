"""Scales and biases of residual branches (LayerScale, NFNet, Fixup) are folded, and their traps kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from residual_models import residual_model

import tautomer

C = 4
IMAGE = f"float[2, {C}, 5, 5]"
WEIGHTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("w1", "w2"), (C, C, 3, 3)),
    **dict.fromkeys(("p1", "p2"), (C, C, 1, 1)),
    **dict.fromkeys(("c1", "c2"), (C,)),
    **dict.fromkeys(("g2d", "b2d"), (1, C, 1, 1)),
    **dict.fromkeys(("s", "t", "b1a", "b1b", "b2a", "b2b"), (1,)),
    **dict.fromkeys(("w", "v"), (6, 6)),
    "g": (6,),
    "c": (6,),
    "u": (6, 6),
}
PADDED = "Conv <pads = [1, 1, 1, 1]>"
NFNET = f"""
    a = Relu (x)
    z = Mul (a, s)
    h1 = {PADDED} (z, w1, c1)
    h2 = Relu (h1)
    h3 = {PADDED} (h2, w2, c2)
    k = Mul (h3, t)
    l = Mul (s, k)
    down = AveragePool <kernel_shape = [1, 1]> (x)
    y = Add (l, down)
"""
FIXUP = """
    x1 = Add (x, b1a)
    h1 = Conv (x1, p1)
    h2 = Add (h1, b1b)
    h3 = Relu (h2)
    h4 = Add (h3, b2a)
    h5 = Conv (h4, p2)
    h6 = Mul (h5, s)
    h7 = Add (b2b, h6)
    y = Add (h7, x)
"""


def optimized(body: str, image: str = IMAGE, dtype: Any = np.float32, **replace: Any) -> Any:
    made = residual_model(
        body, weights=WEIGHTS, inputs=f"{image} x", outputs=f"{image} y", dtype=dtype, replace=replace
    )
    return tautomer.optimize(made, norm="ln")


def operators(result: Any) -> Counter[str]:
    assert result.verification["verdict"] == "EQUAL"
    return Counter(node.op_type for node in result.model.graph)


def missed(result: Any) -> list[str]:
    return [r.reason for r in result.remarks if r.kind == "missed" and r.rule.startswith("fold")]


def test_gains_of_nfnets_go_into_the_convolutions() -> None:
    found = operators(optimized(NFNET))
    assert found["Mul"] == 0 and found["Conv"] == 2


def test_scales_and_biases_of_fixup_go_into_the_convolutions() -> None:
    found = operators(optimized(FIXUP))
    assert found["Mul"] == 0 and found["Add"] == 1 and found["Conv"] == 2


def test_a_bias_does_not_pass_padding() -> None:
    result = optimized(FIXUP.replace("Conv (x1, p1)", f"{PADDED} (x1, w1)"))
    assert operators(result)["Add"] == 2
    assert missed(result) == ["node 'Conv#h1' pads with zeros, to which it adds nothing"]


NORMALISED = "d = Sub (x, b1a)\n z = Div (d, g2d)\n h = {conv} (z, {w}, c1)\n k = Sub (h, b2b)\n y = Relu (k)"


def test_mean_and_deviation_of_images_go_into_the_convolution() -> None:
    found = operators(optimized(NORMALISED.format(conv="Conv", w="p1")))
    assert found == {"Conv": 1, "Relu": 1}


def test_a_mean_does_not_pass_padding_and_a_deviation_does() -> None:
    result = optimized(NORMALISED.format(conv=PADDED, w="w1"))
    assert operators(result)["Div"] == 0 and operators(result)["Sub"] == 1
    assert missed(result) == ["node 'Conv#h' pads with zeros, to which it adds nothing"]


def test_an_image_that_is_divided_by_zero_stays() -> None:
    body = "z = Div (x, s)\n h = Conv (z, p1)\n y = Relu (h)"
    result = optimized(body, s=np.zeros(1, np.float32))
    assert missed(result) == ["'Div#z' divides by zero"] and operators(result)["Div"] == 1


def test_layer_scale_of_images_and_of_tokens() -> None:
    assert operators(optimized(f"h = {PADDED} (x, w1, c1)\n k = Mul (h, g2d)\n y = Add (k, x)"))["Mul"] == 0
    tokens = "h = MatMul (x, w)\n a = Add (h, c)\n k = Mul (a, g)\n y = Add (k, x)"
    assert operators(optimized(tokens, "float[2, 3, 6]"))["Mul"] == 0


def test_a_scale_behind_squeeze_and_excitation_stays() -> None:
    """The gate depends on what would be scaled."""
    body = f"""
        h = {PADDED} (x, w1, c1)
        m = ReduceMean <axes = [2, 3]> (h)
        e = Conv (m, p1, c2)
        f = Sigmoid (e)
        gated = Mul (h, f)
        k = Mul (gated, s)
        y = Add (k, x)
    """
    made = residual_model(body, weights=WEIGHTS, inputs=f"{IMAGE} x", outputs=f"{IMAGE} y", opset=17)
    result = tautomer.optimize(made, norm="ln")
    assert operators(result)["Mul"] == 2


def test_a_dead_branch_keeps_what_it_does_to_infinities() -> None:
    result = optimized(NFNET, t=np.zeros(1, np.float32))
    assert operators(result)["Conv"] == 2


def test_weights_read_elsewhere_stay_as_they_are_there() -> None:
    body = f"h = {PADDED} (x, w1)\n k = Mul (h, s)\n i = {PADDED} (k, w1)\n y = Add (i, x)"
    found = operators(optimized(body))
    assert found["Mul"] == 0 and found["Conv"] == 2


def test_half_precision_keeps_the_digits_of_weights() -> None:
    body = "h = MatMul (x, w)\n a = Add (h, c)\n k = Mul (a, g)\n y = Add (k, x)"
    image = "float16[2, 3, 6]"
    for size, stays in ((1e-6, 1), (0.5, 0)):
        result = optimized(body, image, np.float16, g=np.full(6, size, np.float16))
        assert operators(result)["Mul"] == stays
        assert any("would lose digits in FLOAT16" in reason for reason in missed(result)) == bool(stays)


@pytest.mark.parametrize("reader", ["Tanh (z)", "Add (z, x)"])
def test_a_gain_that_others_read_stays(reader: str) -> None:
    body = f"a = Relu (x)\n z = Mul (a, s)\n h = {PADDED} (z, w1)\n o = {reader}\n y = Add (h, o)"
    assert missed(optimized(body)) == ["a convolution reads it, and others do, too"]


def test_a_number_between_two_products_stays_for_the_runtime() -> None:
    body = "q = MatMul (x, w)\n p = Add (q, c)\n r = Mul (p, s)\n y = MatMul (r, v)"
    assert not optimized(body, "float[2, 3, 6]").changed


def test_a_number_behind_a_linear_map_goes_into_weight_and_bias() -> None:
    """Once only, also where a constant is multiplied on the way."""
    body = "q = MatMul (x, w)\n p = Add (q, c)\n o = Mul (p, g)\n r = Mul (o, s)\n y = Tanh (r)"
    result = optimized(body, "float[2, 3, 6]")
    assert operators(result)["Mul"] == 0 and isinstance(result.model, ir.Model)


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_a_gain_in_front_of_linear_maps_goes_into_them(op: str) -> None:
    """IA3 scales the activations of a feed-forward network."""
    body = f"a = Tanh (x)\n z = {op} (a, g)\n p = MatMul (z, w)\n q = MatMul (z, v)\n y = Mul (p, q)"
    found = operators(optimized(body, "float[2, 3, 6]"))
    assert found["Mul"] == 1 and found["Div"] == 0 and found["MatMul"] == 2


GAIN = "a = Tanh (x)\n z = Mul (a, g)\n p = MatMul (z, w)\n"


@pytest.mark.parametrize(
    "body",
    [
        f"{GAIN} y = Add (p, z)",
        GAIN.replace("g)", "s)") + " y = Tanh (p)",
        "q = Mul (x, x)\n m = ReduceMean <axes = [-1]> (q)\n e = Add (m, s)\n r = Sqrt (e)\n n = Div (x, r)\n"
        " z = Mul (n, g)\n y = MatMul (z, w)",
    ],
    ids=["read elsewhere", "a number", "of a norm"],
)
def test_other_gains_stay(body: str) -> None:
    made = residual_model(
        body, weights=WEIGHTS, inputs="float[2, 3, 6] x", outputs="float[2, 3, 6] y", opset=17,
        replace={"s": np.array([1e-5], np.float32)},
    )  # fmt: skip
    assert not [each for each in tautomer.optimize(made, norm="ln").remarks if each.rule == "fold gain"]


HEAD = "h = MatMul (x, w)\n a = Add (h, c)\n k = Div (a, s)\n y = Softmax <axis = -1> (k)"
TOKENS = "float[2, 3, 6]"


@pytest.mark.parametrize("temperature", [0.7, 3.0, -2.0])
def test_the_temperature_of_a_softmax_goes_into_the_head(temperature: float) -> None:
    found = operators(optimized(HEAD, TOKENS, s=np.array([temperature], np.float32)))
    assert found == {"MatMul": 1, "Add": 1, "Softmax": 1}


def test_temperatures_per_channel_go_into_the_head() -> None:
    assert operators(optimized(HEAD.replace("s)", "g)"), TOKENS))["Div"] == 0


def test_a_temperature_that_comes_with_the_call_stays() -> None:
    assert operators(optimized(HEAD.replace("s)", "given)"), f"float[1] given, {TOKENS}"))["Div"] == 1


TEMPERATURES = {
    "zero": (HEAD, np.float32, 0.0, "divides by zero"),
    "digits": (HEAD, np.float16, 6e4, "would lose digits in FLOAT16"),
    "range": (HEAD, np.float16, 1e-5, "beyond FLOAT16"),
}


@pytest.mark.parametrize("name", TEMPERATURES)
def test_temperatures_that_weights_cannot_take_stay(name: str) -> None:
    body, dtype, size, reason = TEMPERATURES[name]
    image = TOKENS.replace("float", np.dtype(dtype).name.replace("32", ""))
    result = optimized(body, image, dtype, s=np.array([size], dtype))
    assert operators(result)["Div"] == 1 and any(reason in each for each in missed(result))


SCORES = (
    "h = MatMul (x, w)\n t1 = Transpose <perm = [0, 2, 1]> (h)\n p = MatMul (x, t1)\n k = {op} (p, s)\n"
    " y = Softmax (k)"
)


def test_a_factor_of_scores_stays_as_a_divisor_does() -> None:
    assert operators(optimized(SCORES.format(op="Mul"), TOKENS))["Mul"] == 1


@pytest.mark.parametrize(
    "body",
    [
        SCORES.format(op="Div"),
        "h = MatMul (x, w)\n k = Div (s, h)\n y = Softmax (k)",
        "h = MatMul (x, w)\n k = Div (h, s)\n l = Tanh (h)\n y = Add (k, l)",
    ],
    ids=["of scores", "the dividend", "logits read elsewhere"],
)
def test_quotients_that_are_no_scale_of_a_linear_map_stay(body: str) -> None:
    result = optimized(body, TOKENS)
    assert operators(result)["Div"] == 1
