"""Attention becomes one operator: in every form, in real exports; near misses stay, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from attention_models import BATCH, DEPTH, HEADS, LENGTH, MISSES, WRITTEN, attention, softmax

import tautomer
from benchmarks.specs import ExportSpec
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS
from tautomer.remarks import Remark
from tautomer.target import KERNELS
from tautomer.verify.interpreter import run
from tests.zoo.sketch import Sketch

onnxruntime = pytest.importorskip("onnxruntime")

TARGET = replace(KERNELS, attention=dict.fromkeys(SCORE_FUNCTIONS, ((1, 2.0),)))
RANDOM = np.random.default_rng(5)


def fused(model: Any, target: Any = TARGET, verify: bool = True) -> tuple[list[str], list[Remark], Any]:
    """The attention operators of the result without their prefix, what the pass said, and the result."""
    result = tautomer.optimize(model, target=target, verify=verify)
    names = [node.op_type for node in result.model.graph if node.op_type.startswith("ScoreAttention_")]
    said = [one for one in result.remarks if one.op == "ScoreAttention" and one.kind != "analysis"]
    return [name.removeprefix("ScoreAttention_") for name in names], said, result


def random_inputs(model: onnx.ModelProto, sizes: dict[str, int] | None = None) -> dict[str, np.ndarray]:
    """Values of every input; the first key of each row of a boolean mask stays."""
    fed = {}
    for one in model.graph.input:
        tensor = one.type.tensor_type
        shape = [axis.dim_value or (sizes or {})[axis.dim_param] for axis in tensor.shape.dim]
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        fed[one.name] = RANDOM.standard_normal(shape).astype(kind)
        if one.name == "allowed":
            fed[one.name] = RANDOM.random(shape) < 0.6
            fed[one.name][..., 0] = True
    return fed


def outputs(model: Any, fed: dict[str, np.ndarray]) -> np.ndarray:
    source = model if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, fed)[0]


def same(model: onnx.ModelProto, result: Any, folder: Path, fed: dict[str, np.ndarray]) -> None:
    """Stock onnxruntime gives the same for both files, NaN included."""
    result.save(folder / "fused.onnx", force=True)
    # sums of a few products of order 1, in another order
    np.testing.assert_allclose(
        outputs(folder / "fused.onnx", fed), outputs(model, fed), rtol=1e-4, atol=1e-5, equal_nan=True
    )


@pytest.mark.parametrize("name", WRITTEN)
def test_attention_becomes_one_operator(name: str, tmp_path: Path) -> None:
    weights, form = WRITTEN[name]
    model = attention(weights)
    found, said, result = fused(model)
    assert [one.rsplit("_", 1)[0] for one in found] == [form], said
    assert result.verification["verdict"] == "EQUAL"
    fed = random_inputs(model)
    same(model, result, tmp_path, fed)
    if "allowed" in fed:
        fed["allowed"][:, :, -1:] = False  # a query without keys, or all of them
        same(model, result, tmp_path, fed)


@pytest.mark.parametrize("name", MISSES)
def test_a_near_miss_stays_and_says_why(name: str) -> None:
    miss = MISSES[name]
    found, said, _ = fused(attention(miss.weights, shape=miss.shape))
    assert not found
    assert [miss.reason in one.reason for one in said] == [True], said
    assert all(one.node for one in said)


def heads(s: Sketch, x: str, few: int = HEADS) -> str:
    return s.Transpose(s.Reshape(x, s.const([0, 0, few, DEPTH])), perm=[0, 2, 1, 3])


def repeated(s: Sketch, x: str) -> str:
    """k or v of one head for two of q."""
    wide = s.Expand(s.Unsqueeze(x, s.const([2])), s.const([BATCH, 1, HEADS, LENGTH, DEPTH]))
    return s.Reshape(wide, s.const([BATCH, HEADS, LENGTH, DEPTH]))


def test_transposes_and_repeated_heads_become_part_of_it(tmp_path: Path) -> None:
    s = Sketch()
    q = heads(s, s.input("q", (BATCH, LENGTH, HEADS * DEPTH)))
    k, v = (repeated(s, heads(s, s.input(name, (BATCH, LENGTH, DEPTH)), 1)) for name in "kv")
    scores = s.MatMul(s.Mul(q, 0.7), s.Transpose(k, perm=[0, 1, 3, 2]))
    y = s.Transpose(s.MatMul(softmax(s, scores), v), perm=[0, 2, 1, 3])
    model = s.model(s.Reshape(y, s.const([0, 0, HEADS * DEPTH]), name="y"))
    found, said, result = fused(model)
    assert found == ["softmax_nnnn"], said
    assert [node.op_type for node in result.model.graph if node.op_type != "Reshape"] == [
        "ScoreAttention_softmax_nnnn"
    ]
    same(model, result, tmp_path, random_inputs(model))


def test_half_precision_around_a_softmax_in_float32(tmp_path: Path) -> None:
    s = Sketch("float16")
    q, k, v = (s.input(name, (BATCH, HEADS, LENGTH, DEPTH)) for name in "qkv")
    scores = s.Cast(s.Mul(s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2])), 0.5), to="float32")
    model = s.model(s.MatMul(s.Cast(s.Softmax(scores, axis=-1), to="float16"), v, name="y"), 17)
    found, said, result = fused(model)
    assert found == ["softmax_hhhh"], said
    fed = random_inputs(model)
    result.save(tmp_path / "fused.onnx")
    # float16 has 11 bits, and the original rounds to them three times
    np.testing.assert_allclose(outputs(tmp_path / "fused.onnx", fed), outputs(model, fed), rtol=0, atol=4e-3)


def test_sizes_that_vary(tmp_path: Path) -> None:
    s = Sketch()
    shape = ("batch", HEADS, "tokens", DEPTH)
    q, k, v = (s.input(name, shape) for name in "qkv")
    scores = s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2]))
    tokens = s.Cast(s.Gather(s.Shape(q), s.const(2, "int64"), axis=0), to="float32")
    places = s.Range(
        s.const(0, "int64"), s.Gather(s.Shape(k), s.const(2, "int64"), axis=0), s.const(1, "int64")
    )
    seen = s.Not(s.Greater(places, s.Unsqueeze(places, s.const([1]))))
    weights = s.Sigmoid(s.Where(seen, s.Sub(scores, s.Log(tokens)), -np.inf))
    model = s.model(s.MatMul(weights, v, name="y"))
    found, said, result = fused(model)
    assert found == ["sigmoid_additive_causal_hhhh"], said
    for tokens_now in (1, 7, 33):  # one, a few, and more than were looked at
        same(model, result, tmp_path, random_inputs(model, {"batch": 2, "tokens": tokens_now}))


def test_a_window_that_is_wider_than_what_was_looked_at_is_no_triangle() -> None:
    s = Sketch()
    shape = ("batch", HEADS, "tokens", DEPTH)
    q, k, v = (s.input(name, shape) for name in "qkv")
    scores = s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2]))
    places = s.Range(
        s.const(0, "int64"), s.Gather(s.Shape(k), s.const(2, "int64"), axis=0), s.const(1, "int64")
    )
    rows = s.Unsqueeze(places, s.const([1]))
    seen = s.Not(s.Greater(places, rows))
    seen = s.And(seen, s.Greater(places, s.Sub(rows, s.const(4096, "int64"))))
    model = s.model(s.MatMul(softmax(s, s.Where(seen, scores, -np.inf)), v, name="y"))
    assert fused(model)[0] == ["softmax_boolean_hhhh"]


def test_what_others_read_keeps_attention_as_it_is() -> None:
    s = Sketch()
    q, k, v = (s.input(name, (BATCH, HEADS, LENGTH, DEPTH)) for name in "qkv")
    p = s.Softmax(s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2])), axis=-1, name="weights")
    found, said, _ = fused(s.model([s.MatMul(p, v, name="y"), "weights"]))
    assert not found and "an output of the model is" in said[0].reason


@pytest.mark.parametrize(
    ("dtype", "opset", "reason"),
    [("float64", 18, "element type is DOUBLE"), ("float16", 13, "needs opset 15")],
)
def test_other_types_and_old_opsets_stay(dtype: str, opset: int, reason: str) -> None:
    s = Sketch(dtype)
    q, k, v = (s.input(name, (BATCH, HEADS, LENGTH, DEPTH)) for name in "qkv")
    p = s.Sigmoid(s.MatMul(q, s.Transpose(k, perm=[0, 1, 3, 2])))
    found, said, _ = fused(s.model(s.MatMul(p, v, name="y"), opset))
    assert not found and reason in said[0].reason


def test_short_sequences_and_runtimes_without_a_kernel_stay() -> None:
    model = attention(softmax)
    slower = replace(KERNELS, attention={"softmax": ((LENGTH, 0.8), (512, 1.5))})
    found, said, _ = fused(model, slower)
    assert not found and f"at {LENGTH} keys" in said[0].reason
    other = replace(KERNELS, attention={"sigmoid": ((LENGTH, 2.0),)})
    assert "no kernel for the score function softmax" in fused(model, other)[1][0].reason
    assert fused(model, "onnxruntime")[1] == []


EXPORTS = {
    ExportSpec("gpt2", "dynamo", 18, "sdpa"): ("additive_zero", 2),
    ExportSpec("llama", "torchscript", 17, "sdpa", "static"): ("boolean_zero", 2),
    ExportSpec("bert", "torchscript", 17, "eager"): ("additive", 2),
    ExportSpec("whisper_decoder", "dynamo", 18, "sdpa"): ("causal", 4),
    ExportSpec("t5_decoder", "torchscript", 17, "sdpa"): ("additive", 4),
}


@pytest.mark.parametrize("spec", EXPORTS, ids=lambda spec: spec.name)
def test_attention_of_real_exports(spec: ExportSpec, exported: Callable[..., Path], tmp_path: Path) -> None:
    path = exported(spec)
    part, count = EXPORTS[spec]
    found, said, result = fused(path, verify=False)  # what it computes is compared below, at other sizes
    assert len(found) == count, said
    assert part in found[0]
    result.save(tmp_path / "fused.onnx")
    inputs = spec.inputs(1)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = {one.name: inputs[one.name] for one in session.get_inputs()}
    # through two layers, roundings in another order: as in tests/exports
    for before, after in zip(
        session.run(None, fed),
        onnxruntime.InferenceSession(tmp_path / "fused.onnx", providers=["CPUExecutionProvider"]).run(
            None, fed
        ),
        strict=True,
    ):
        np.testing.assert_allclose(after, before, rtol=0, atol=2e-5 * float(np.abs(before).max()))


def test_the_function_body_is_what_the_interpreter_runs() -> None:
    model = attention(WRITTEN["a boolean"][0])
    _, _, result = fused(model)
    fed = random_inputs(model)
    found = run(result.model, Float64(), fed)["y"]
    np.testing.assert_allclose(found, outputs(model, fed), rtol=1e-4, atol=1e-5)  # float32 against float64
