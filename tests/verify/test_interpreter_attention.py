"""Attention as ONNX's own cases have it, and as onnxruntime computes it."""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import pytest
from onnx import TensorProto as T

from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.interpreter import run

pytestmark = pytest.mark.filterwarnings("ignore")  # onnx's cases overflow and divide by zero on purpose
_OPERATORS = ("Attention", "RotaryEmbedding", "LayerNormalization", "RMSNormalization")
# onnx computes its expected outputs in the type of the case, and so with its unit roundoff
_TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def _cases():
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        if any(node.op_type in _OPERATORS for node in case.model.graph.node):
            yield case


def test_onnx_cases():
    checked, worst = 0, 0.0
    for case in _cases():
        model = as_model(case.model)
        for inputs, outputs in case.data_sets:
            given = {value.name: x for value, x in zip(model.graph.inputs, inputs, strict=True)}
            found = run(model, Float64(), given)
            for value, expected in zip(model.graph.outputs, outputs, strict=True):
                exact = np.asarray(expected).astype(np.float64)
                tolerance = _TOLERANCE[expected.dtype.name]
                assert found[value.name].shape == exact.shape, case.name
                assert np.allclose(found[value.name], exact, tolerance, tolerance), case.name
                worst = max(worst, float(np.max(np.abs(found[value.name] - exact), initial=0.0)) / tolerance)
        checked += 1
    print(f"{checked} cases, worst error {worst:.2g} of the tolerance")
    assert checked >= 130


def _attention(inputs, outputs=("y",), **attributes):
    names = ["q", "k", "v", "mask", "past_key", "past_value"]
    used = [name if name in inputs else "" for name in names]
    while not used[-1]:
        used.pop()
    node = oh.make_node("Attention", used, list(outputs), **attributes)
    kinds = {np.dtype(np.float32): T.FLOAT, np.dtype(bool): T.BOOL}
    graph = oh.make_graph(
        [node],
        "g",
        [oh.make_tensor_value_info(n, kinds[x.dtype], x.shape) for n, x in inputs.items()],
        [oh.make_tensor_value_info(n, T.FLOAT, None) for n in outputs if n],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 23)], ir_version=10)


def _onnxruntime(model, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)


def _inputs(rng, flat=False, heads=4, few=2, queries=5, keys=7, past=0):
    def tensor(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    made = {
        "q": tensor(2, queries, heads * 8) if flat else tensor(2, heads, queries, 8),
        "k": tensor(2, keys, few * 8) if flat else tensor(2, few, keys, 8),
        "v": tensor(2, keys, few * 6) if flat else tensor(2, few, keys, 6),
    }
    if past:
        made |= {"past_key": tensor(2, few, past, 8), "past_value": tensor(2, few, past, 6)}
    return made


SETTINGS = {
    "plain": ({}, {}, None),
    "scale": ({}, {"scale": 0.3}, None),
    "softcap": ({}, {"softcap": 2.0}, None),
    "causal": ({}, {"is_causal": 1}, None),
    "three dimensions": ({"flat": True}, {"q_num_heads": 4, "kv_num_heads": 2}, None),
    "boolean mask": ({}, {}, "bool"),
    "float mask": ({}, {}, "float"),
    "past": ({"past": 3}, {}, None),
    "causal with past": ({"past": 3}, {"is_causal": 1}, None),
    "one query": ({"queries": 1}, {}, "float"),
    "softcap and mask": ({}, {"softcap": 2.0}, "float"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_against_onnxruntime(name):
    shape, attributes, mask = SETTINGS[name]
    rng = np.random.default_rng(5)
    inputs = _inputs(rng, **shape)
    keys = 7 + shape.get("past", 0)
    queries = shape.get("queries", 5)
    if mask == "bool":
        inputs["mask"] = rng.random((2, 1, queries, keys)) < 0.6
        inputs["mask"][..., 0] = True
    if mask == "float":
        inputs["mask"] = rng.standard_normal((queries, keys)).astype(np.float32)
    outputs = ("y", "present_key", "present_value") if "past" in shape else ("y",)
    model = _attention(inputs, outputs, **attributes)
    expected = _onnxruntime(model, inputs)
    found = run(as_model(model), Float64(), inputs)
    for output, exact in zip(expected, found.values(), strict=True):
        # sums of 8 and 10 products of numbers of order 1, in float32
        assert np.max(np.abs(output - exact)) < 3e-6


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_the_scores_at_each_stage(mode):
    rng = np.random.default_rng(6)
    inputs = _inputs(rng) | {"mask": rng.standard_normal((5, 7)).astype(np.float32)}
    model = _attention(inputs, ("y", "", "", "scores"), softcap=2.0, qk_matmul_output_mode=mode)
    found = run(as_model(model), Float64(), inputs)["scores"]
    q, k = inputs["q"].astype(np.float64), np.repeat(inputs["k"].astype(np.float64), 2, 1)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(8)
    capped = 2.0 * np.tanh(scores / 2.0)
    masked = capped + inputs["mask"]
    weights = np.exp(masked) / np.exp(masked).sum(-1, keepdims=True)
    assert np.allclose(found, [scores, capped, masked, weights][mode], rtol=1e-12, atol=1e-12)


def test_a_query_that_sees_nothing_gives_zero():
    inputs = _inputs(np.random.default_rng(7))
    inputs["mask"] = np.ones((5, 7), bool)
    inputs["mask"][2] = False
    y = run(as_model(_attention(inputs)), Float64(), inputs)["y"]
    assert np.all(y[:, :, 2] == 0.0) and np.all(np.isfinite(y)) and np.all(y[:, :, 1] != 0.0)
    inputs["mask"] = np.where(inputs["mask"], 0.0, -np.inf).astype(np.float32)
    assert np.array_equal(run(as_model(_attention(inputs)), Float64(), inputs)["y"], y)
