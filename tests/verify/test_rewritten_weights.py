"""Mistakes in rewrites that move constants: each gives another function, and the evidence says so."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import tautomer

C = 4
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("w", "a", "b"), (C, C)),
    "conv": (C, C, 3, 3),
    "c": (C,),
    "bias": (1, C, 1, 1),
    **dict.fromkeys(("s", "t"), (1,)),
    "terms": (C, C),
}
TOKENS, IMAGE = f"float[3, {C}] x", f"float[1, {C}, 5, 5] x"
ADAPTED = "m = MatMul (x, w)\n h = MatMul (x, a)\n l = MatMul (h, b)\n k = Mul (l, s)\n y = Add (m, k)"
MERGED = "ab = MatMul (a, b)\n d = Mul (ab, s)\n v = Add (w, d)\n y = MatMul (x, v)"
PADDED = "Conv <pads = [1, 1, 1, 1]>"
SCALED = f"z = Mul (x, s)\n y = {PADDED} (z, conv, c)"
RIGHT = f"v = Mul (conv, s)\n y = {PADDED} (x, v, c)"
SUMMED = "u = Unsqueeze (x, one)\n p = Mul (u, terms)\n y = ReduceSum <keepdims = 0> (p, two)"
GATE = "p = Softmax (x)\n v, i = TopK (p, two)\n n = ReduceSum (v, one)\n y = Div (v, n)"
SHIFTED = f"z = Add (x, s)\n y = {PADDED} (z, conv, c)"
SUM_OF_TAPS = "v = ReduceSum <keepdims = 0> (conv, taps)\n o = Mul (v, s)\n e = Add (c, o)\n"
PAIRS = {
    "an adapter merged": (TOKENS, ADAPTED, MERGED, True),
    "its second matrix turned": (
        TOKENS, ADAPTED, f"bt = Transpose (b)\n {MERGED.replace('(a, b)', '(a, bt)')}", False
    ),
    "its matrices exchanged": (TOKENS, ADAPTED, MERGED.replace("(a, b)", "(b, a)"), False),
    "another scale": (TOKENS, ADAPTED, MERGED.replace("(ab, s)", "(ab, t)"), False),
    "the base scaled, too": (
        TOKENS, ADAPTED, "ab = MatMul (a, b)\n q = Add (w, ab)\n v = Mul (s, q)\n y = MatMul (x, v)", False
    ),
    "a gain before a convolution": (IMAGE, SCALED, RIGHT, True),
    "its bias scaled, too": (IMAGE, SCALED, f"e = Mul (c, s)\n {RIGHT.replace('v, c', 'v, e')}", False),
    "a bias past padding": (IMAGE, SHIFTED, f"{SUM_OF_TAPS} y = {PADDED} (x, conv, e)", False),
    "sums as a product": (TOKENS, SUMMED, "t2 = Transpose (terms)\n y = MatMul (x, t2)", True),
    "its matrix not turned": (TOKENS, SUMMED, "y = MatMul (x, terms)", False),
    "a gate by logits": (TOKENS, GATE, "v, i = TopK (x, two)\n y = Softmax (v)", True),
    "its softmax twice": (TOKENS, GATE, "p = Softmax (x)\n v, i = TopK (p, two)\n y = Softmax (v)", False),
    "its weights not renormalised": (TOKENS, GATE, "p = Softmax (x)\n y, i = TopK (p, two)", False),
}  # fmt: skip


def model(inputs: str, body: str) -> ir.Model:
    outputs = "float[p, q, r, s] y" if "Conv" in body else "float[p, q] y"
    text = f'<ir_version: 10, opset_import: ["": 18]> g ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    arrays = {
        name: np.random.default_rng(place).standard_normal(shape).astype(np.float32)
        for place, (name, shape) in enumerate(SHAPES.items())
    }
    arrays |= {"one": np.array([1]), "two": np.array([2]), "taps": np.array([1, 2, 3])}
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(arrays[name], name) for name in arrays if name in read
    )
    return ir.from_proto(proto)


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_another_function_is_seen(pair: str) -> None:
    inputs, original, other, same = PAIRS[pair]
    verdict = tautomer.verify(
        model(inputs, original), model(inputs, other), inputs={"x": np.random.default_rng(9).standard_normal(
            (3, C) if inputs is TOKENS else (1, C, 5, 5)).astype(np.float32)},
    )  # fmt: skip
    algebra = verdict.legs["algebra"]
    assert algebra.passed is same, (verdict.verdict, verdict.reason)
    assert (verdict.verdict == "DIFFERENT") >= (not same)
