"""Sparsity that a model has of its own is named, and nothing else is taken for it."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

import tautomer

K, ZERO, HALF = (
    "k = Constant <value_ints = [2]> ()",
    "zero = Constant <value_float = 0.0> ()",
    "half = Constant <value_float = 0.5> ()",
)
FIRST = "at = Constant <value_int = 1> ()"
PREDICTOR = "h = MatMul (x, p)\n s0 = Relu (h)\n s = MatMul (s0, q)\n r = Relu (x)"
NATIVE = {
    "top-k by threshold": (
        f"{K}\n {ZERO}\n {FIRST}\n v, i = TopK (x, k)\n t0 = Gather <axis = -1> (v, at)\n"
        " minus = Constant <value_ints = [-1]> ()\n t = Unsqueeze (t0, minus)\n"
        " m = GreaterOrEqual (x, t)\n y = Where (m, x, zero)",
        "TopKActivation",
    ),
    "top-k scattered": (
        f"{K}\n v, i = TopK (x, k)\n n = Shape (x)\n z = ConstantOfShape (n)\n"
        " y = ScatterElements <axis = -1> (z, i, v)",
        "TopKActivation",
    ),
    "FATReLU": (f"{HALF}\n {ZERO}\n m = GreaterOrEqual (x, half)\n y = Where (m, x, zero)", "FATReLU"),
    "FATReLU by a product": (
        f"{HALF}\n m = Less (x, half)\n n = Not (m)\n c = Cast <to = 1> (n)\n y = Mul (c, x)",
        "FATReLU",
    ),
    "predicted": (f"{PREDICTOR}\n {HALF}\n m = Greater (s, half)\n c = Cast <to = 1> (m)\n y = Mul (r, c)",
                  "PredictedSparsity"),
}  # fmt: skip
OTHERS = {
    "a mask of scores": f"{HALF}\n inf = Constant <value_float = -inf> ()\n m = Greater (x, half)\n"
    " y = Where (m, x, inf)",
    "relu": f"{ZERO}\n m = Greater (x, zero)\n y = Where (m, x, zero)",
    "a router": f"{K}\n v, i = TopK (x, k)\n e = Softmax (v)\n n = Shape (x)\n z = ConstantOfShape (n)\n"
    " y = ScatterElements <axis = -1> (z, i, e)",
    "a wide gate": f"s = MatMul (x, w)\n {HALF}\n m = Greater (s, half)\n c = Cast <to = 1> (m)\n"
    " y = Mul (x, c)",
}  # fmt: skip


def named(body: str) -> list[str]:
    text = f'<ir_version: 10, opset_import: ["": 18]> g (float[4, 6] x) => (float[4, 6] y) {{ {body} }}'
    values = {"p": (6, 2), "q": (2, 6), "w": (6, 6)}
    proto = onnx.parser.parse_model(text)
    for name, dims in values.items():
        if any(name in node.input for node in proto.graph.node):
            tensor = onnx.helper.make_tensor(name, 1, dims, [0.5] * (dims[0] * dims[1]))
            proto.graph.initializer.append(tensor)
    remarks = tautomer.explain(ir.from_proto(proto))
    return [remark.op for remark in remarks if remark.rule == "model change"]


@pytest.mark.parametrize("case", NATIVE)
def test_it_is_named(case: str) -> None:
    body, name = NATIVE[case]
    assert named(body) == [name]


@pytest.mark.parametrize("case", OTHERS)
def test_others_are_not(case: str) -> None:
    assert named(OTHERS[case]) == []


def test_a_relu_behind_a_negative_number_is_a_relu() -> None:
    """No constant of it is the shift of a shifted ReLU, which is the number with its sign changed."""
    text = "minus = Constant <value_float = -0.75> ()\n z = Add (x, minus)\n y = Relu (z)"
    assert named(text) == []
