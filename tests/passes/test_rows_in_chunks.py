"""Products that are larger than what becomes of them are made in chunks of rows; others stay, and say why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import tautomer
from tautomer.target import ONNXRUNTIME

onnxruntime = pytest.importorskip("onnxruntime")

FEATURES, CLASSES = 6, 40
TARGET = replace(ONNXRUNTIME, chunked_from=6 * CLASSES)  # three rows at a time
PICKED = "p = LogSoftmax <axis = -1> (z) \n y = GatherElements <axis = 1> (p, i)"
HEADS = {
    "log-probability": (PICKED, "float[N, 1] y"),
    "of logits with a cap and a scale": (
        f"a = Div (z, five) \n b = Tanh (a) \n z2 = Mul (b, five) \n {PICKED.replace('(z)', '(z2)')}",
        "float[N, 1] y",
    ),
    "cross-entropy": ("y = SoftmaxCrossEntropyLoss (z, t)", "float y"),
    "that ignores a class": ("y = SoftmaxCrossEntropyLoss <ignore_index = 3> (z, t)", "float y"),
    "that ignores no class": ("y = SoftmaxCrossEntropyLoss <ignore_index = -100> (z, t)", "float y"),
    "sum": ('y = SoftmaxCrossEntropyLoss <reduction = "sum", ignore_index = 1> (z, t)', "float y"),
    "each": ('y = SoftmaxCrossEntropyLoss <reduction = "none", ignore_index = 1> (z, t)', "float[N] y"),
    "negative log-likelihood": (
        "p = LogSoftmax <axis = 1> (z) \n y = NegativeLogLikelihoodLoss <ignore_index = 2> (p, t)",
        "float y",
    ),
    "smoothed": (
        """p = LogSoftmax <axis = -1> (z) \n c = GatherElements <axis = 1> (p, i) \n m = ReduceMean (p, one)
        d = Mul (c, five) \n y = Add (d, m)""",
        "float[N, 1] y",
    ),
    "spherical": (
        """c = GatherElements <axis = 1> (z, i) \n mu = ReduceMean (z, one) \n q = Mul (z, z)
        m2 = ReduceMean (q, one) \n mm = Mul (mu, mu) \n v = Sub (m2, mm) \n s = Sqrt (v) \n d = Sub (mu, c)
        e = Add (s, five) \n r = Div (d, e) \n y = Softplus (r)""",
        "float[N, 1] y",
    ),
    "spelled": (
        """h = ReduceMax (z, one) \n s = Sub (z, h) \n e = Exp (s) \n n = ReduceSum (e, one) \n l = Log (n)
        p = Sub (s, l) \n y = GatherElements <axis = 1> (p, i)""",
        "float[N, 1] y",
    ),
    "the most likely class": ("y = ArgMax <axis = -1, keepdims = 0> (z)", "int64[N] y"),
}
MISSES = {
    "logits are an output": (PICKED, "float[N, 1] y, float[N, 40] z", "is an output of the model"),
    "all probabilities are": ("y = Softmax <axis = -1> (z)", "float[N, 40] y", "is an output of the model"),
    "over rows": (PICKED.replace("-1", "0"), "float[N, 1] y", "(LogSoftmax) does not treat rows alike"),
    "weights of classes": ("y = SoftmaxCrossEntropyLoss (z, t, k)", "float y", "does not treat rows alike"),
    "what another row has": (
        "m = ReduceMax <keepdims = 1> (z, zero) \n s = Sub (z, m) \n p = LogSoftmax <axis = -1> (s)"
        "\n y = GatherElements <axis = 1> (p, i)",
        "float[N, 1] y",
        "node 'ReduceMax",
    ),
}


def model(body: str, outputs: str, rows: int | str = 7, bias: bool = False) -> onnx.ModelProto:
    """x [rows, 6] W to 40 classes, and what is made of them."""
    product = "u = MatMul (x, w) \n z = Add (u, k)" if bias else "z = MatMul (x, w)"
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    head (float[{rows}, {FEATURES}] x, int64[{rows}] t) => ({outputs.replace("N", str(rows))})
    <int64[1] one = {{1}}, int64[1] zero = {{0}}, float five = {{5}}>
    {{ i = Unsqueeze (t, one) \n {product} \n {body} }}"""
    made = onnx.parser.parse_model(text)
    rng = np.random.default_rng(3)
    for name, shape in (("w", (FEATURES, CLASSES)), ("k", (CLASSES,))):
        if f"{name})" in text or f"{name}," in text:
            stored = rng.standard_normal(shape).astype(np.float32)
            made.graph.initializer.append(onnx.numpy_helper.from_array(stored, name))
    return made


def rewritten(source: onnx.ModelProto, target: Any = TARGET) -> tuple[Counter[str], list[str], Any]:
    result = tautomer.optimize(source, target=target)
    assert result.verification is None or result.verification["verdict"] == "EQUAL", result.verification
    said = [f"{one.kind}: {one.reason}" for one in result.remarks if one.rule == "rows in chunks"]
    return Counter(node.op_type for node in result.model.graph), said, result


def outputs(proto: onnx.ModelProto, rows: int | tuple[int, ...]) -> list[Any]:
    rng, sizes = np.random.default_rng(4), (rows,) if isinstance(rows, int) else rows
    x, t = rng.standard_normal((*sizes, FEATURES)), rng.integers(0, CLASSES, sizes)
    fed = {"x": x.astype(np.float32), "t": t}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {one.name: fed[one.name] for one in session.get_inputs()})


@pytest.mark.parametrize("name", HEADS)
def test_a_head_never_has_all_logits(name: str) -> None:
    source = model(*HEADS[name])
    found, said, result = rewritten(source)
    assert found["Loop"] == 1 and not found["MatMul"] and said[0].startswith("passed"), said
    # sums of a few products in another order
    for before, after in zip(outputs(source, 7), outputs(ir.to_proto(result.model), 7), strict=True):
        np.testing.assert_allclose(after, before, rtol=2e-5, atol=2e-6)


def test_rows_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tautomer.passes.rows_in_chunks._LEAST_MATRIX", FEATURES * CLASSES)
    source = model(*HEADS["log-probability"], rows="n", bias=True)
    _, said, result = rewritten(source)
    assert said[0].startswith("passed")
    for rows in (0, 1, 2, 3, 4, 6, 7):  # none, one, and around one chunk and two
        (before,), (after,) = outputs(source, rows), outputs(ir.to_proto(result.model), rows)
        np.testing.assert_allclose(after, before, rtol=2e-5, atol=2e-6)


# of sequences: what torch exports of a loss of tokens that are shifted by one, of classes at the second place
SEQUENCES = {
    "shifted": (
        """s = Slice (z, start, end, middle) \n p = LogSoftmax <axis = -1> (s) \n u = Slice (t, one, far, one)
        i = Unsqueeze (u, last) \n y = GatherElements <axis = 2> (p, i)""",
        "float[B, M, 1] y",
    ),
    "shifted and flat": (
        """s = Slice (z, start, end, middle) \n f = Reshape (s, flat) \n u = Slice (t, one, far, one)
        v = Reshape (u, last) \n y = SoftmaxCrossEntropyLoss <ignore_index = -100> (f, v)""",
        "float y",
    ),
    "turned": (
        """f = Transpose <perm = [0, 2, 1]> (z)
        y = SoftmaxCrossEntropyLoss <reduction = "none", ignore_index = 2> (f, t)""",
        "float[B, T] y",
    ),
    "sum of squares": ("y = ReduceSumSquare <keepdims = 0> (z, last)", "float[B, T] y"),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_heads_of_sequences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tautomer.passes.rows_in_chunks._LEAST_MATRIX", FEATURES * CLASSES)
    body, results = SEQUENCES[name]
    head = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 20]>
    head (float[B, T, {FEATURES}] x, int64[B, T] t) => ({results})
    <int64[1] start = {{0}}, int64[1] end = {{-1}}, int64[1] middle = {{1}}, int64[1] one = {{1}},
     int64[1] far = {{1000}}, int64[1] last = {{-1}}, int64[2] flat = {{-1, {CLASSES}}}>
    {{ z = MatMul (x, w) \n {body} }}""")
    w = np.random.default_rng(3).standard_normal((FEATURES, CLASSES)).astype(np.float32)
    head.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    found, said, result = rewritten(head)
    assert found["Loop"] == 1 and said[0].startswith("passed"), said
    for sizes in ((1, 2), (2, 5)):
        before, after = (outputs(made, sizes)[0] for made in (head, ir.to_proto(result.model)))
        np.testing.assert_allclose(after, before, rtol=2e-5, atol=2e-6)


MUTANTS: dict[str, Callable[[ir.Graph], None]] = {
    "rows in another order": lambda body: turn(body, "Concat"),
    "its opposite": lambda body: set_type(body, "Neg", "Abs"),
}


def set_type(body: ir.Graph, old: str, new: str) -> None:
    """Of the last node of a type."""
    [node for node in body if node.op_type == old][-1].op_type = new


def turn(body: ir.Graph, kind: str) -> None:
    node = next(one for one in body if one.op_type == kind)
    first, second = node.inputs
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_evidence_kills_a_wrong_loop(name: str) -> None:
    # losses of either sign, one by one
    body = 'p = Mul (z, five) \n y = NegativeLogLikelihoodLoss <reduction = "none"> (p, t)'
    source = model(body, "float[N] y")
    result = tautomer.optimize(source, target=TARGET, verify=False)
    (loop,) = (node for node in result.model.graph if node.op_type == "Loop")
    MUTANTS[name](loop.attributes["body"].as_graph())
    assert tautomer.verify(source, ir.to_proto(result.model)).verdict == "DIFFERENT"


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_stay_and_say_why(name: str) -> None:
    body, results, reason = MISSES[name]
    found, said, _ = rewritten(model(body, results))
    assert not found["Loop"] and [reason in one for one in said] == [True], said


def test_small_products_and_other_targets_stay() -> None:
    source = model(*HEADS["log-probability"])
    assert not rewritten(source, replace(TARGET, chunked_from=1000 * CLASSES))[0]["Loop"]
    assert not rewritten(source, "onnx")[0]["Loop"]
