"""Graphs of training: what takes its statistics from the batch is refused, and said why."""

import numpy as np
import pytest
from onnx import numpy_helper, parser

import tautomer

_DICE = """<ir_version: 8, opset_import: ["" : 17]> g (float[6, 4] x) => (float[6, 4] y)
<float one = {1}, float[4] a = {0.1, 0.2, 0.3, 0.4}, float[4] s = {1, 1, 1, 1}, float[4] b = {0, 0, 0, 0},
 float[4] m = {0.5, 0, -0.5, 1}, float[4] v = {1, 2, 0.5, 1}> {
    n, running_mean, running_var = BatchNormalization <training_mode = 1> (x, s, b, m, v)
    p = Sigmoid(n) q = Sub(one, p) h = Mul(a, q) i = Mul(h, x) j = Mul(p, x) y = Add(i, j) }"""
_EVO_NORM = """<ir_version: 8, opset_import: ["" : 17]> g (float[3, 4, 5, 2] x) => (float[3, 4, 5, 2] y)
<float e = {0.001}, float[4, 1, 1] v = {0.1, 0.2, 0.3, 0.4}> {
    bm = ReduceMean <axes = [0, 2, 3]> (x) bc = Sub(x, bm) bq = Mul(bc, bc)
    bv = ReduceMean <axes = [0, 2, 3]> (bq) be = Add(bv, e) left = Sqrt(be)
    m = ReduceMean <axes = [2, 3]> (x) c = Sub(x, m) q = Mul(c, c) w = ReduceMean <axes = [2, 3]> (q)
    we = Add(w, e) d = Sqrt(we) s = Mul(v, x) right = Add(s, d) big = Max(left, right) y = Div(x, big) }"""


@pytest.mark.parametrize(("op", "text"), [("Dice", _DICE), ("EvoNormB0", _EVO_NORM)])
def test_statistics_of_the_batch_are_refused(op: str, text: str) -> None:
    model = parser.parse_model(text)
    assert op not in [one.op for one in tautomer.inspect(model)]
    told = [one for one in tautomer.explain(model) if one.op == op]
    assert [one.kind for one in told] == ["missed"]
    assert "from the batch" in told[0].reason
    assert told[0].node and told[0].hint == "export the model for inference"


_LORA = """<ir_version: 8, opset_import: ["" : 17]> g (float[6, 4] x) => (float[6, 5] y)
<float ratio = {0.1}, bool training = {1}> {
    m = MatMul(x, w) d = Dropout(x, ratio, training) h = MatMul(d, a) l = MatMul(h, b) y = Add(m, l) }"""


@pytest.mark.parametrize(("old", "new"), [("", ""), ("(x, ratio, training)", "(x, ratio)")])
def test_an_adapter_behind_a_dropout_of_training_stays(old: str, new: str) -> None:
    model = parser.parse_model(_LORA.replace(old, new) if old else _LORA)
    for name, shape in (("w", (4, 5)), ("a", (4, 2)), ("b", (2, 5))):
        held = numpy_helper.from_array(np.random.default_rng(0).standard_normal(shape, np.float32), name)
        model.graph.initializer.append(held)
    (told,) = [one for one in tautomer.explain(model) if one.rule == "merge adapters"]
    assert told.kind == ("passed" if old else "missed")
    assert old or ("(Dropout) drops elements, as in training" in told.reason and told.node)
