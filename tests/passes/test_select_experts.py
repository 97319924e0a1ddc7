"""Gates of mixtures of experts: the softmax of all experts becomes one of those that are chosen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from residual_models import residual_model

import tautomer

EXPERTS, K = 6, 2
INPUTS = "int64[tokens] ids"
LOGITS = "x = Gather <axis = 0> (logits, ids)\n"
MIXTRAL = """
    p = Softmax <axis = -1> (x)
    v, i = TopK <axis = -1> (p, k)
    n = ReduceSum <keepdims = 1> (v, last)
    w = Div (v, n)
    rows = Gather <axis = 0> (table, i)
    each = Unsqueeze (w, last)
    parts = Mul (each, rows)
    y = ReduceSum <keepdims = 0> (parts, second)
"""
ROWS = np.random.default_rng(0).standard_normal((7, EXPERTS)).astype(np.float32)
ROWS[1] = [200, -1, -2, 5, -300, 0]  # all probabilities but one are zero in float32
ROWS[2, 3] = -np.inf
ROWS[3] = 0.0
GPT_OSS = """
    v, i = TopK <axis = -1> (x, k)
    w = Softmax <axis = -1> (v)
    n = Shape (x)
    z = ConstantOfShape (n)
    y = ScatterElements <axis = -1> (z, i, w)
"""


def model(body: str, outputs: str = "float[tokens, 3] y") -> ir.Model:
    integers = {"k": np.array([K]), "last": np.array([-1]), "second": np.array([-2])}
    weights = {"logits": (7, EXPERTS), "table": (EXPERTS, 3), **dict.fromkeys(integers, (1,)), "e": ()}
    return residual_model(
        LOGITS + body,
        weights=weights,
        inputs=INPUTS,
        outputs=outputs,
        replace={**integers, "logits": ROWS, "e": np.float32(1e-9)},
    )


def told(result: tautomer.Result, kind: str) -> list[str]:
    return [r.reason for r in result.remarks if (r.rule, r.kind) == ("select experts", kind)]


def test_the_gate_of_mixtral_takes_k_exponentials() -> None:
    source = model(MIXTRAL)
    result = tautomer.optimize(source, choose_by_logits=True)
    found = Counter(node.op_type for node in result.model.graph)
    assert found["Div"] == 0 and found["Softmax"] == 1 and found["ReduceSum"] == 1
    assert result.verification["verdict"] == "EQUAL" and told(result, "passed")
    old, new = (
        onnxruntime.InferenceSession(ir.to_proto(each).SerializeToString()).run(None, {"ids": np.arange(7)})[
            0
        ]
        for each in (source, result.model)
    )
    np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)  # a few roundings of numbers near 1


def test_it_is_done_when_asked_for() -> None:
    """Tiny logits have one probability, and the first experts are chosen; of their logits the largest are."""
    result = tautomer.optimize(model(MIXTRAL))
    assert not result.changed and "logits tell them apart" in told(result, "missed")[0]
    assert "--choose-by-logits" in next(r.hint for r in result.remarks if r.rule == "select experts")


def test_softmax_over_the_chosen_is_named_and_kept() -> None:
    result = tautomer.optimize(model(GPT_OSS, f"float[tokens, {EXPERTS}] y"))
    assert not result.changed
    assert told(result, "analysis") == ["takes the softmax of the chosen experts alone"]


@pytest.mark.parametrize(
    ("old", "new", "outputs", "said"),
    [
        ("w = Div (v, n)", "w = Identity (v)", "", "not renormalised"),
        ("w = Div (v, n)", "m = Add (n, e)\n w = Div (v, m)", "", "something else than their sum"),
        ("(v, last)", "(v, second)", "", "something else than their sum"),
        ("w = Div (v, n)", "w = Div (v, n)\n o = Tanh (p)", f"float[tokens, {EXPERTS}] o", "all experts"),
        (
            "w = Div (v, n)",
            "w = Div (v, n)\n o = Tanh (v)",
            f"float[tokens, {K}] o",
            "chosen experts are read",
        ),
        ("x)", "x)", f"int64[tokens, {K}] i", "gives the chosen experts away"),
        ("TopK <axis = -1>", "TopK <axis = -1, largest = 0>", "", "smallest"),
    ],
    ids=[
        "not renormalised",
        "an epsilon",
        "another sum",
        "all read",
        "chosen read",
        "given away",
        "smallest",
    ],
)
def test_other_gates_stay_and_say_why(old: str, new: str, outputs: str, said: str) -> None:
    assert old in MIXTRAL
    result = tautomer.optimize(
        model(MIXTRAL.replace(old, new), ", ".join(filter(None, ["float[tokens, 3] y", outputs])))
    )
    assert not told(result, "passed") and said in told(result, "missed")[0]
