"""RMSNormalization -> CRMSNormalization: rows of one element less, the same function; what it refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from residual_models import HIDDEN, TOKENS, VOCABULARY, WEIGHTS, WIDTH, residual_model

import tautomer
from tautomer.passes.streams import zero_mean_basis
from tautomer.patterns.compressed_norms import crms_norm, orthonormal_crms_norm
from tautomer.patterns.norms import rms_norm
from tautomer.patterns.recognition.evaluation import FLOAT64
from tautomer.patterns.recognition.recognise import recognise
from tautomer.patterns.rows import Rows

FORMS = {"crms": "CRMSNormalization", "crms-orthonormal": "OrthonormalCRMSNormalization"}
STREAM = "float[batch, 4, 6] x"
LINEAR = {
    "w": (WIDTH, WIDTH),
    "v": (WIDTH, WIDTH),
    "u": (WIDTH, HIDDEN),
    "g": (WIDTH,),
    "b": (WIDTH,),
    "c": (WIDTH,),
    "token": (1, 1, WIDTH),
}
NORM = "LayerNormalization <axis = -1, epsilon = 0.001>"
# a stream of one writer, read by a norm whose reader has no bias and is the output
HEAD = f"h = MatMul (x, w) {{}} n = {NORM} (s, g, b) y = MatMul (n, u)"

both = pytest.mark.parametrize("norm", FORMS)


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def missed(result: Any) -> list[str]:
    return [r.reason for r in result.remarks if r.rule == "compress" and r.kind == "missed"]


def passed(result: Any) -> int:
    return sum(r.rule == "compress" and r.kind == "passed" for r in result.remarks)


def small(
    body: str, *, outputs: str = "float[batch, 4, 10] y", inputs: str = STREAM, **options: Any
) -> ir.Model:
    return residual_model(body, weights=LINEAR, inputs=inputs, outputs=outputs, **options)


def of_width(width: int) -> ir.Model:
    weights = {name: tuple(width if n == WIDTH else n for n in shape) for name, shape in WEIGHTS.items()}
    return residual_model(weights=weights)


def proven(model: ir.Model, norm: str) -> Any:
    result = tautomer.optimize(model, norm=norm)  # type: ignore[arg-type]
    assert result.verification["verdict"] == "EQUAL"
    assert {leg["status"] for leg in result.verification["legs"].values()} == {"passed"}
    return result


def ran(path: Path, ids: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": ids})[0]


@both
@pytest.mark.parametrize("width", [2, 3, 7, 8])
def test_a_language_model_loses_an_element_of_every_row_and_is_equal(norm: str, width: int) -> None:
    result = proven(of_width(width), norm)
    assert operators(result.model)[FORMS[norm]] == 3 == passed(result)
    facts = recognise(result.model).facts
    for node in result.model.graph:
        if node.op_type == FORMS[norm]:
            assert {facts.get(x).shape[-1] for x in (*node.inputs, *node.outputs)} == {width - 1}
    assert operators(result.model)["RMSNormalization"] == 0


@both
def test_stock_onnxruntime_runs_the_function_bodies(norm: str, tmp_path: Path) -> None:
    source = residual_model()
    ir.save(source, tmp_path / "in.onnx")
    proven(source, norm).save(tmp_path / "out.onnx")
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (3, TOKENS))
    expected, found = (ran(tmp_path / name, ids) for name in ("in.onnx", "out.onnx"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # sums of ten products in float32


@both
def test_the_result_is_recognised_by_name_and_stays(norm: str, tmp_path: Path) -> None:
    proven(residual_model(), norm).save(tmp_path / "once.onnx")
    assert sum(op.op == FORMS[norm] for op in tautomer.inspect(tmp_path / "once.onnx")) == 3
    assert not tautomer.optimize(tmp_path / "once.onnx", norm=norm).changed  # type: ignore[arg-type]


def test_the_definitions_are_the_norm_of_the_whole_row() -> None:
    x = np.random.default_rng(1).standard_normal((5, 7))
    x -= x.mean(-1, keepdims=True)
    m, whole = Rows(FLOAT64, (1,)), rms_norm(Rows(FLOAT64, (1,)), x)
    np.testing.assert_allclose(crms_norm(m, x[:, :-1]), whole[:, :-1], rtol=1e-12)
    share = 1.0 / (1.0 + np.sqrt(7.0))
    short, short_whole = (row[:, :-1] - share * row[:, -1:] for row in (x, whole))
    np.testing.assert_allclose(orthonormal_crms_norm(m, short), short_whole, rtol=1e-12)


def test_it_is_done_on_request_only_and_warns() -> None:
    assert not any(r.rule == "compress" for r in tautomer.explain(residual_model(), norm="rms"))
    (warning,) = [
        r
        for r in tautomer.explain(residual_model(), norm="crms")
        if (r.rule, r.kind) == ("compress", "analysis")
    ]
    assert "two sums again" in warning.reason and "noisiest" in warning.reason


@both
def test_a_tied_table_stays_as_it_is(norm: str) -> None:
    source = residual_model()
    table = proven(source, norm).model.graph.initializers["table"]
    np.testing.assert_array_equal(
        table.const_value.numpy(), source.graph.initializers["table"].const_value.numpy()
    )
    assert [node.op_type for node, _ in table.uses()] == ["Gather"]


@both
def test_what_is_centred_at_run_time_is_shortened_at_run_time(norm: str) -> None:
    body = f"""
        n0 = {NORM} (x, g, b)
        q0 = MatMul (n0, w)
        h1 = Add (x, q0)
        n1 = {NORM} (h1, g, b)
        y = MatMul (n1, u)
    """
    result = proven(small(body), norm)
    assert operators(result.model)[FORMS[norm]] == 2
    assert operators(result.model)["Slice"] == (2 if norm == "crms-orthonormal" else 1)


def test_a_bias_that_is_a_node_is_no_weight_in_the_comparison() -> None:
    zeros = "o = Constant <value = float[6] {0, 0, 0, 0, 0, 0}> ()"
    body = f"{zeros} h = MatMul (x, w) n = {NORM} (h, g, o) y = MatMul (n, u)"
    assert passed(proven(small(body), "crms")) == 1


@both
def test_one_constant_may_be_read_by_a_norm_and_write_to_its_stream(norm: str) -> None:
    body = f"""
        h0 = MatMul (x, v)
        n0 = {NORM} (h0, g, b)
        q0 = MatMul (n0, w)
        h1 = Add (h0, q0)
        n1 = {NORM} (h1, g, b)
        q1 = MatMul (n1, w)
        y = MatMul (q1, u)
    """
    assert operators(proven(small(body), norm).model)[FORMS[norm]] == 2


SHAPES = {
    "literal": "l = Constant <value = int64[3] {-1, 2, 6}> () s = Reshape (h, l)",
    "copied": "l = Constant <value = int64[3] {0, 0, 0}> () s = Reshape (h, l)",
    "inferred": "l = Constant <value = int64[3] {2, 2, -1}> () s = Reshape (h, l)",
    "computed": """
        one = Constant <value = int64[1] {1}> ()
        four = Constant <value = int64[1] {4}> ()
        batch = Shape <start = 0, end = 1> (h)
        width = Shape <start = 2> (h)
        apart = Concat <axis = 0> (batch, one, four, width)
        whole = Shape (x)
        s0 = Unsqueeze (h, one)
        s1 = Reshape (s0, apart)
        s = Reshape (s1, whole)
    """,
    "a token joined": """
        zero = Constant <value = int64[1] {0}> ()
        whole = Shape (x)
        batch = Gather <axis = 0> (whole, zero)
        rest = Constant <value = int64[2] {1, 6}> ()
        target = Concat <axis = 0> (batch, rest)
        first = Expand (token, target)
        s = Concat <axis = 1> (first, h)
    """,
    "equal factors": "f = Constant <value = float[6] {2, 2, 2, 2, 2, 2}> () s = Mul (h, f)",
}


@both
@pytest.mark.parametrize("spelling", SHAPES)
def test_lengths_written_into_the_graph_follow(norm: str, spelling: str) -> None:
    inputs = "float[2, 2, 6] x" if spelling == "inferred" else STREAM
    model = small(HEAD.format(SHAPES[spelling]), inputs=inputs, outputs="float[m, k, 10] y")
    assert operators(proven(model, norm).model)[FORMS[norm]] == 1


def test_the_shape_of_a_stream_and_of_a_norm_is_told_as_it_was() -> None:
    body = f"""
        h = MatMul (x, w)
        n = {NORM} (h, g, b)
        l = Shape (n)
        f = Reshape (n, l)
        y = MatMul (f, u)
        sizes = Shape (h)
        k = Identity (sizes)
    """
    assert passed(proven(small(body, outputs="float[batch, 4, 10] y, int64[3] k"), "crms")) == 1


# what the message says, the nodes, the outputs, more inputs
REFUSALS = [
    ("'y' is an output of the model", f"h = MatMul (x, w) y = {NORM} (h, g, b)", "float[batch, 4, 6] y", ""),
    (
        "(Tanh) reads it and is not linear",
        f"h = MatMul (x, w) n = {NORM} (h, g, b) t = Tanh (n) y = MatMul (t, u)",
        "float[batch, 4, 10] y",
        "",
    ),
    (
        "(Softmax) reads all elements of 'h'",
        f"h = MatMul (x, w) n = {NORM} (h, g, b) y = MatMul (n, u) z = Softmax <axis = -1> (h)",
        "float[batch, 4, 10] y, float[batch, 4, 6] z",
        "",
    ),
    (
        "multiplies it by something that is no constant matrix",
        f"h = MatMul (x, w) n = {NORM} (h, g, b) y = MatMul (n, d)",
        "float[batch, 4, 10] y",
        ", float[6, 10] d",
    ),
]


@pytest.mark.parametrize(("reason", "body", "outputs", "more"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_it_refuses_and_says_why(reason: str, body: str, outputs: str, more: str) -> None:
    result = tautomer.optimize(small(body, outputs=outputs, inputs=STREAM + more), norm="crms")
    assert not passed(result)
    (said,) = missed(result)
    assert said.startswith("its stream keeps its length: ") and reason in said, said
    assert result.verification["verdict"] == "EQUAL"


def test_in_double_precision_nothing_is_folded() -> None:
    model = residual_model(opset=23, dtype=np.float64, outputs="double[batch, 4, 7] logits")
    remarks = tautomer.explain(model, norm="crms")
    assert not [r for r in remarks if r.rule == "compress" and r.kind == "passed"]
    assert any("is in DOUBLE" in r.reason for r in remarks if r.rule == "recentre")


def test_a_wrong_basis_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, b: Any, w: Any, axis: int, dtype: Any) -> Any:
        return self.head(b, w, axis)  # as if the element that was left out were zero

    monkeypatch.setattr(zero_mean_basis.Basis, "for_reader", wrong)
    with pytest.raises(tautomer.errors.CheckFailedError, match="different"):
        tautomer.optimize(residual_model(), norm="crms")


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file in files:
        tautomer.optimize(residual_model(), norm="crms-orthonormal").save(file)
    assert files[0].read_bytes() == files[1].read_bytes()
