"""Adapters of convolutions: merged, and near misses that stay."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
import pytest
from residual_models import residual_model

import tautomer

SHAPES: dict[str, tuple[int, ...]] = {
    "w": (4, 3, 3, 3),
    "c": (4,),
    "a": (2, 3, 3, 3),
    "b": (4, 2, 1, 1),
    "a2": (1, 3, 3, 3),
    "b2": (4, 1, 1, 1),
    "s": (),
    "wide": (4, 2, 3, 3),
    "d": (4,),
}
MOVES = "Conv <pads = [1, 1, 1, 1], strides = [2, 2]>"
LORA = f"m = {MOVES} (x, w, c)\n h = {MOVES} (x, a)\n l = Conv (h, b)\n k = Mul (l, s)\n y = Add (m, k)"
TWO = f"""
    {LORA.replace("y = ", "y1 = ")}
    h2 = {MOVES} (x, a2)
    k2 = Div (h2, s)
    l2 = Conv (k2, b2)
    y = Add (l2, y1)
"""


def model(body: str, outputs: str = "float[batch, 4, 4, 4] y") -> ir.Model:
    return residual_model(body, weights=SHAPES, inputs="float[batch, 3, 7, 7] x", outputs=outputs)


def missed(result: tautomer.Result) -> list[str]:
    return [r.reason for r in result.remarks if (r.rule, r.kind) == ("merge convolution adapters", "missed")]


@pytest.mark.parametrize("body", [LORA, TWO], ids=["one", "two"])
def test_a_convolution_takes_its_adapters(body: str) -> None:
    result = tautomer.optimize(model(body))
    assert Counter(node.op_type for node in result.model.graph) == {"Conv": 1}
    assert result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("h = Conv <pads = [1, 1, 1, 1]", "h = Conv <pads = [2, 2, 0, 0]", "over its input in another way"),
        ("l = Conv (h, b)", "l = Conv <pads = [1, 1, 1, 1]> (h, wide)", "no product of channels alone"),
        ("l = Conv (h, b)", "l = Conv (h, b, d)", "its adapter has a bias"),
        ("y = Add", "z = Tanh (h)\n y = Add", "'h' is read elsewhere, too"),
    ],
    ids=["another padding", "a wide second", "a bias", "read elsewhere"],
)  # fmt: skip
def test_near_misses_stay_and_say_why(old: str, new: str, said: str) -> None:
    assert old in LORA
    outputs = "float[batch, 4, 4, 4] y" + (", float[p, q, r, s] z" if "Tanh" in new else "")
    result = tautomer.optimize(model(LORA.replace(old, new), outputs))
    assert Counter(node.op_type for node in result.model.graph)["Conv"] == 3 and said in missed(result)[0]
