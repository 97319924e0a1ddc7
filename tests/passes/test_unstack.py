"""Sums over a new axis of a few parameters are written out, and run as one operator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import tautomer
from tautomer.graph.reader import as_model

A, B, C = (np.array(one, np.float32) for one in ([1.0, 0.5, -0.25], [0.3, -0.2, 0.1], [0.7, 0.4, -1.5]))
SERIES = (
    "u = Unsqueeze(x, last) m = Mul(u, a) s = Add(m, b) g = {f}(s) t = Mul(g, c) "
    "y = ReduceSum <keepdims = 0> (t, last)"
)


def model(body: str, outputs: str = "float[2, 5] y") -> onnx.ModelProto:
    proto = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20]> g (float[2, 5] x) => ({outputs}) {{ {body} }}'
    )
    stored = {"a": A, "b": B, "c": C, "last": np.array([-1]), "four": np.append(A, A[:1]), "uneven": A[:1]}
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(stored[name], name) for name in stored if name in read
    )
    return proto


@pytest.mark.parametrize("f", ["Gelu", "Relu", "Tanh"])
def test_a_series_becomes_one_operator(f: str) -> None:
    result = tautomer.optimize(model(SERIES.format(f=f)), target="kernels")
    assert result.verification["verdict"] == "EQUAL"
    assert [node.domain for node in as_model(result.model).graph] == ["tautomer"]


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        # another axis is summed, the terms are read elsewhere, and it is no sum over a new axis
        (
            SERIES.format(f="Gelu").replace("(t, last)", "(t, zero)")
            + " zero = Constant <value_ints = [1]> ()",
            "",
        ),
        (SERIES.format(f="Gelu"), "float[2, 5] y, float[2, 5, 3] g"),
        ("t = Relu(x) z = ReduceSum <keepdims = 0> (t, last) o = Mul(x, x) y = Add(o, x)", ""),
    ],
)
def test_others_stay(body: str, outputs: str) -> None:
    if "zero" in body:
        first, second = body.split(" zero = ")
        body, outputs = f"zero = {second} {first}", "float[2, 3] y"
    remarks = tautomer.explain(model(body, outputs or "float[2, 5] y"), target="kernels")
    assert not [one for one in remarks if one.rule == "unstack" and one.kind == "passed"]


RATIONAL = """
    p = Mul (x, x) q = Mul (p, x) u = Unsqueeze (x, last) v = Unsqueeze (p, last) w = Unsqueeze (q, last)
    s = Concat <axis = -1> (u, v, w)
    {above} m = Mul (s, b) n = ReduceSum <keepdims = 0> (m, last) o = Abs (n) d = Add (one, o) y = Div (t, d)
    """
SUMMED = "k = Mul (s, a) t = ReduceSum <keepdims = 0> (k, last)"
PRODUCT = "t = MatMul (s, a)"


@pytest.mark.parametrize("above", [SUMMED, PRODUCT])
def test_a_rational_function_of_a_stack_of_powers_is_written_by_horners_rule(above: str) -> None:
    body = "one = Constant <value_float = 1.0> ()" + RATIONAL.format(above=above)
    result = tautomer.optimize(model(body))
    assert result.verification["verdict"] == "EQUAL"
    left = {node.op_type for node in as_model(result.model).graph}
    assert left <= {"Abs", "Add", "Constant", "Div", "Mul"}


@pytest.mark.parametrize(
    ("old", "new", "outputs"),
    [
        ("Unsqueeze (q, last)", "Concat <axis = -1> (v, v)", ""),
        ("Concat <axis = -1> (u, v, w)", "Concat <axis = 1> (u, v, w)", "float[2, 15] y"),
        ("Abs (n)", "Abs (n)", "float[2, 5] y, float[2, 5, 3] m"),
    ],
    ids=["a part of two", "another axis", "read elsewhere"],
)
def test_other_stacks_stay(old: str, new: str, outputs: str) -> None:
    assert old in RATIONAL
    body = "one = Constant <value_float = 1.0> ()" + RATIONAL.replace(old, new).format(above=SUMMED)
    weights = "four" if "(v, v)" in new else "uneven" if "axis = 1" in new else ""
    if weights:
        body = body.replace("(s, a)", f"(s, {weights})").replace("(s, b)", f"(s, {weights})")
    remarks = tautomer.explain(model(body, outputs or "float[2, 5] y"))
    passed = [one for one in remarks if (one.rule, one.kind) == ("unstack", "passed")]
    assert len(passed) == (old == new) and not [r for r in remarks if r.op == "Rational"]
