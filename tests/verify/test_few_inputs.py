"""Whole models of large static sizes: exact arithmetic on a few rows, and on all where that does not tell."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import tautomer
from tautomer.graph.reader import as_model
from tautomer.target import ONNXRUNTIME
from tautomer.verify.few_rows import few_inputs
from tautomer.verify.row_loops import row_loop
from tests.verify.test_new_sums import QUADRATIC, REASSOCIATED

N, D = 40, 20


def model(body: str, more: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["": 18]>
    m (float[{N}, {D}] a, float[{D}, {N}] b, float[{N}, {D}] c) => (float[{N}, {D}] y)
    <float eps = {{0.000001}}, float one = {{1}}, int64[1] last = {{-1}}, float n = {{{D}}},
     int64[2] shape = {{{N}, {D}}}, int64[2] other = {{{D}, {N}}} {more}> {{ {body} }}""")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("tautomer.verify.few_rows"), "_LARGE", 1000)


def test_few_rows_and_terms_of_both_models() -> None:
    first, second = (as_model(model(body)) for body in (QUADRATIC, REASSOCIATED))
    assert few_inputs(first, second, {}) == {"a": (3, 16), "b": (16, 16), "c": (16, 16)}
    assert few_inputs(first, second, {}, more=1) == {"a": (4, 17), "b": (17, 17), "c": (17, 17)}


def test_a_loop_over_chunks_of_rows_is_read_as_what_it_does_to_rows() -> None:
    source = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["": 18]>
    m (float[900, 6] x, float[6] s, int64[900] t) => (float y)
    { m = Mul (x, s) \n z = MatMul (m, w) \n y = SoftmaxCrossEntropyLoss <ignore_index = 1> (z, t) }""")
    w = np.random.default_rng(0).standard_normal((6, 700)).astype(np.float32)
    source.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    target = replace(ONNXRUNTIME, chunked_from=10000)
    other = tautomer.optimize(source, target=target, verify=False).model
    (loop,) = (node for node in other.graph if node.op_type == "Loop")
    assert few_inputs(as_model(source), other, {}) == {"x": (3, 6), "s": (6,), "t": (3,)}
    trips = loop.inputs[0]
    read = row_loop(loop)
    assert read is not None
    chunks = -(-900 // read.length)
    for count in (chunks - 1, chunks, chunks + 1):
        stored = ir.Value(name=f"trips_{count}", const_value=ir.tensor(np.int64(count)))
        other.graph.register_initializer(stored)
        loop.replace_input_with(0, stored)
        all_rows = few_inputs(as_model(source), other, {}) is not None
        assert all_rows == (count == chunks)
    loop.replace_input_with(0, trips)
    body = loop.attributes["body"].as_graph()
    start = next(node for node in body if node.op_type == "Mul")
    start.op_type = "Add"  # then it is no place of a chunk
    assert few_inputs(as_model(source), other, {}) is None


# what one side reads whole
WHOLE = {
    "softmax": ("p = MatMul (a, b) \n w = Softmax (p) \n y = MatMul (w, c)", {"b": (16, N)}),
    "mean": ("p = MatMul (a, b) \n w = ReduceMean (p, last) \n y = Mul (c, w)", {"b": (16, N)}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_read_whole_stays_whole(name: str) -> None:
    body, kept = WHOLE[name]
    few = few_inputs(as_model(model(QUADRATIC)), as_model(model(body)), {})
    assert few is not None and {key: few[key] for key in kept} == kept


STORED = {
    "a stored shape": "r = Reshape (a, shape) \n p = MatMul (r, b) \n y = MatMul (p, c)",
    "a question for sizes": """
        p = MatMul (a, b) \n s = Shape (p) \n f = Cast <to = 1> (s) \n k = ReduceMax <keepdims = 0> (f)
        q = Div (p, k) \n y = MatMul (q, c)""",
}


@pytest.mark.parametrize("name", STORED)
def test_shapes_that_are_stored_or_asked_for_take_all_rows(name: str) -> None:
    assert few_inputs(as_model(model(STORED[name])), as_model(model(QUADRATIC)), {}) is None


def verdict(first: str, second: str) -> tautomer.Verdict:
    return tautomer.verify(model(first), model(second))


def test_equal_on_few_rows_and_said_so() -> None:
    found = verdict(QUADRATIC, REASSOCIATED)
    assert found.verdict == "EQUAL" and any("'a' [4, 17]" in note for note in found.assumptions)
    assert found.legs["numerics"].detail["new_sums"] == {"y": N}
    assert "new_sums" not in verdict(QUADRATIC, QUADRATIC).legs["numerics"].detail


MUTANTS = {
    "no epsilon": ("ze = Add (z0, eps)", "ze = Identity (z0)"),
    "a feature of one only": ("pb = Add (fb, one)", "pb = Identity (fb)"),
    "the sum of scores twice": ("y = Div (u, ze)", "h = Div (u, ze) \n y = Div (h, ze)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_different(name: str) -> None:
    right, wrong = MUTANTS[name]
    assert right in REASSOCIATED
    assert verdict(QUADRATIC, REASSOCIATED.replace(right, wrong)).verdict == "DIFFERENT"


DEVIATIONS = """t = ReduceSum (a, last) \n m = Div (t, n) \n d = Sub (a, m) \n e = Mul (d, d)
    v = ReduceSum (e, last) \n p = MatMul (a, b) \n q = MatMul (p, c) \n y = Mul (q, v)"""
SQUARES = """t = ReduceSum (a, last) \n m = Div (t, n) \n d = Mul (t, m) \n e = Mul (a, a)
    f = ReduceSum (e, last) \n v = Sub (f, d) \n p = MatMul (a, b) \n q = MatMul (p, c) \n y = Mul (q, v)"""


def test_what_holds_of_all_terms_only_is_no_difference() -> None:
    """sum (a - s / n)^2 = sum a^2 - s^2 / n for n terms, and not for a few of them."""
    algebra = verdict(DEVIATIONS, SQUARES).legs["algebra"]
    assert algebra.passed, algebra
