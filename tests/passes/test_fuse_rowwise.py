"""Rowwise regions: what becomes one operator, what does not and why, and that the result is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import tautomer
from tautomer.graph.reader import as_model
from tautomer.passes.fuse_rowwise import FuseRowwise
from tautomer.remarks import Remark

onnxruntime = pytest.importorskip("onnxruntime")

RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model(
    body: str, signature: str, constants: Mapping[str, Any] | None = None, opset: int = 18
) -> onnx.ModelProto:
    text = f'<ir_version: 9, opset_import: ["": {opset}]> m {signature} {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for name, value in (constants or {}).items():
        array = np.asarray(value, np.int64 if isinstance(value, list) else None)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def fused(proto: onnx.ModelProto, verify: bool = True) -> tuple[list[str], list[Remark], Any]:
    """The operators of the rewritten main graph, what the pass said, and the result."""
    result = tautomer.optimize(proto, target="kernels", verify=verify)
    ops = [node.op_type.split("_")[0] for node in result.model.graph]
    return ops, [one for one in result.remarks if one.rule == FuseRowwise.name], result


def same(proto: onnx.ModelProto, result: Any, tmp_path: Any, sizes: Mapping[str, int]) -> None:
    """Stock onnxruntime gives the same for both files."""
    result.save(tmp_path / "fused.onnx")
    fed = {}
    for one in proto.graph.input:
        tensor = one.type.tensor_type
        shape = [axis.dim_value or sizes[axis.dim_param] for axis in tensor.shape.dim]
        fed[one.name] = RANDOM.standard_normal(shape).astype(
            onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        )
    cpu = ["CPUExecutionProvider"]
    before = onnxruntime.InferenceSession(proto.SerializeToString(), providers=cpu).run(None, fed)
    after = onnxruntime.InferenceSession(tmp_path / "fused.onnx", providers=cpu).run(None, fed)
    for a, b in zip(before, after, strict=True):
        # sums of a few dozen numbers of order 1, in another order
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(np.abs(a).max(initial=1)))


X = "(float[batch, 5, 24] x) => (float[batch, 5, 24] y)"
XYZ = "(float[batch, 5, 24] x, float[batch, 5, 24] g, float[batch, 5, 24] r) => (float[batch, 5, 24] y)"
IMAGE = "(float[batch, 12, h, w] x) => (float[batch, 12, h, w] y)"
ONE = {"one": np.float32(1.5)}

FUSED = {
    "a gate and a residual": ("s = Sigmoid(g) p = Mul(x, s) y = Add(p, r)", XYZ, {}),
    "a rational function": (
        "a = Mul(x, one) b = Add(a, c1) n = Mul(b, x) q = Abs(x) d = Add(q, c2) y = Div(n, d)",
        X,
        {**ONE, "c1": np.float32(0.25), "c2": np.float32(1.0)},
    ),
    "a sum of activations": (
        "a = Add(x, b0) c = Relu(a) d = Mul(c, w0) e = Add(x, b1) f = Tanh(e) g = Mul(f, w1) y = Add(d, g)",
        X,
        {"b0": np.float32(0.5), "b1": np.float32(-0.5), "w0": np.float32(0.3), "w1": np.float32(0.7)},
    ),
    "rows, numbers per row and a number": (
        "m = ReduceMax <keepdims = 1> (x, last) c = Sub(x, m) d = Mul(c, row) e = Add(d, one) y = Exp(e)",
        X,
        {**ONE, "row": numbers(24), "last": [-1]},
    ),
    "axes that go and come back": (
        "m = ReduceMean <keepdims = 0> (x, last) u = Unsqueeze(m, last) c = Sub(x, u) y = Relu(c)",
        X,
        {"last": [2]},
    ),
    "rows of two axes": (
        "s = ReduceSumSquare <keepdims = 1> (x, two) t = Sqrt(s) d = Div(x, t) y = Mul(d, gain)",
        X,
        {"two": [1, 2], "gain": numbers(5, 24)},
    ),
    "rows written flat": (
        "f = Reshape(x, flat) m = ReduceMean <keepdims = 1> (f, last) c = Sub(f, m) "
        "q = Mul(c, c) z = Reshape(q, whole) y = Add(z, x)",
        X,
        {"flat": [0, -1], "whole": [-1, 5, 24], "last": [1]},
    ),
    "groups of channels": (
        "v = Reshape(x, split) m = ReduceMean <keepdims = 1> (v, last) c = Sub(v, m) z = Shape(x) "
        "b = Reshape(c, z) s = Mul(b, gain) t = Sigmoid(s) y = Mul(t, x)",
        IMAGE,
        {"split": [0, 3, -1], "last": [2], "gain": numbers(12, 1, 1)},
    ),
    "channels of every image": (
        "n = InstanceNormalization <epsilon = 0.01> (x, gain, shift) y = Relu(n)",
        IMAGE,
        {"gain": numbers(12), "shift": numbers(12)},
    ),
    "a slope for each channel": ("a = PRelu(x, slope) y = Mul(a, x)", IMAGE, {"slope": numbers(12, 1, 1)}),
    "stored statistics": (
        "n = BatchNormalization <epsilon = 0.001> (x, a, b, c, d) s = Sigmoid(n) y = Mul(s, x)",
        "(float[batch, 16] x) => (float[batch, 16] y)",
        {"a": numbers(16), "b": numbers(16), "c": numbers(16), "d": np.abs(numbers(16))},
    ),
    "choices": ("c = Greater(x, one) n = Neg(x) y = Where(c, x, n)", X, ONE),
    "a softmax of what was added": ("s = Add(x, g) t = Softmax <axis = -1> (s) y = Mul(t, r)", XYZ, {}),
    "a number that is an input": (
        "a = Mul(x, k) y = Tanh(a)",
        "(float[batch, 24] x, float[1] k) => (float[batch, 24] y)",
        {},
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_a_region_becomes_one_operator_that_gives_the_same(name: str, tmp_path: Any) -> None:
    proto = model(*FUSED[name])
    ops, remarks, result = fused(proto)
    assert [op for op in ops if op not in ("Shape", "Constant")] == ["Rowwise"]
    assert [one.kind for one in remarks] == ["passed"]
    assert result.verification["verdict"] == "EQUAL"
    same(proto, result, tmp_path, {"batch": 3, "h": 4, "w": 5})


BLOCKS = {
    "a norm that a condition modulates": (
        "m = ReduceMean <keepdims = 1> (x, last) c = Sub(x, m) q = Mul(c, c) "
        "v = ReduceMean <keepdims = 1> (q, last) e = Add(v, one) r = Sqrt(e) n = Div(c, r) "
        "f = Mul(n, scale) y = Add(f, shift)",
        "(float[batch, 5, 24] x, float[batch, 1, 24] scale, float[batch, 1, 24] shift) "
        "=> (float[batch, 5, 24] y)",
        {**ONE, "last": [-1]},
    ),
    "a mask before a softmax": (
        "s = Mul(x, one) t = Add(s, mask) p = Softmax <axis = -1> (t) y = Mul(p, one)",
        "(float[batch, 3, q, 8] x, float[batch, 1, 1, 8] mask) => (float[batch, 3, q, 8] y)",
        ONE,
    ),
    "a mask that is spread before": (
        "w = Shape(x) m = Expand(mask, w) t = Add(x, m) p = Softmax <axis = -1> (t) y = Mul(p, one)",
        "(float[batch, 3, 4, 8] x, float[batch, 1, 1, 8] mask) => (float[batch, 3, 4, 8] y)",
        ONE,
    ),
    "a bias of heads and positions, and a number of each head": (
        "t = Add(x, bias) u = Mul(t, slope) p = Softmax <axis = -1> (u) y = Mul(p, one)",
        "(float[batch, 3, 4, 8] x) => (float[batch, 3, 4, 8] y)",
        {**ONE, "bias": numbers(3, 4, 8), "slope": numbers(3, 1, 1)},
    ),
    "a number of each example beside one of each row": (
        "s = ReduceSumSquare <keepdims = 1> (x, last) t = Mul(s, z) y = Div(x, t)",
        "(float[batch, 5, 24] x, float[batch, 1, 1] z) => (float[batch, 5, 24] y)",
        {"last": [2]},
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_operands_may_have_some_of_the_axes_before_a_row(name: str, tmp_path: Any) -> None:
    proto = model(*BLOCKS[name])
    ops, _, result = fused(proto)
    assert [op for op in ops if op not in ("Shape", "Expand")] == ["Rowwise"]
    assert result.verification["verdict"] == "EQUAL"
    same(proto, result, tmp_path, {"batch": 3, "q": 4})


def test_numbers_of_rows_that_are_read_along_another_axis_are_not_taken_for_those_of_rows() -> None:
    """Where sizes are equal only the axes tell: m[j] is taken from x[i, j], and s[i] goes with m[i, j]."""
    bodies = (
        (
            "m = ReduceMean <keepdims = 0> (x, last) c = Sub(x, m) y = Relu(c)",
            "(float[4, 4] x) => (float[4, 4] y)",
        ),
        (
            "m = ReduceMean <keepdims = 0> (x, last) n = Mul(m, s) u = Unsqueeze(n, last) c = Sub(x, u) "
            "y = Relu(c)",
            "(float[4, 4, 8] x, float[4, 1] s) => (float[4, 4, 8] y)",
        ),
    )
    for body, signature in bodies:
        _, said, result = fused(model(body, signature, {"last": [-1]}))
        assert "report it" not in " ".join(str(one.hint) for one in said)
        assert result.verification.get("verdict", "EQUAL") == "EQUAL"


ROWS = "(float[batch, 5, 24] x) => (float[batch, 5] y)"
PER_ROW = {
    "the entropy of a softmax": (
        "p = Softmax <axis = -1> (x) l = Log(p) t = Mul(p, l) s = ReduceSum <keepdims = 0> (t, a) y = Neg(s)",
        ROWS,
        {"a": [2]},
        ["Rowwise", "Reshape"],
    ),
    "the root of a sum of squares": (
        "q = Mul(x, x) s = ReduceSum <keepdims = 1> (q, last) e = Add(s, one) y = Sqrt(e)",
        "(float[batch, 5, 24] x) => (float[batch, 5, 1] y)",
        {**ONE, "last": [-1]},
        ["Rowwise"],
    ),
    "a log-sum-exp less a number of the row": (
        "t = Mul(x, one) l = ReduceLogSumExp <keepdims = 1> (t, last) y = Sub(l, z)",
        "(float[batch, 24] x, float[batch, 1] z) => (float[batch, 1] y)",
        {**ONE, "last": [-1]},
        ["Rowwise"],
    ),
    "a log-sum-exp, for which the runtime takes long": (
        "y = ReduceLogSumExp <keepdims = 1> (x, last)",
        "(float[batch, 24] x) => (float[batch, 1] y)",
        {"last": [-1]},
        ["Rowwise"],
    ),
    "a mean over two axes": (
        "s = Sigmoid(x) t = Mul(x, s) y = ReduceMean <keepdims = 0> (t, two)",
        "(float[batch, 5, 24] x) => (float[batch] y)",
        {"two": [1, 2]},
        ["Rowwise", "Reshape"],
    ),
    "one number of all": (
        "d = Sub(x, g) q = Mul(d, d) y = ReduceMean <keepdims = 0> (q)",
        "(float[batch, 24] x, float[batch, 24] g) => (float y)",
        {},
        ["Rowwise", "Reshape"],
    ),
}


@pytest.mark.parametrize("name", PER_ROW)
def test_a_region_may_give_one_number_per_row(name: str, tmp_path: Any) -> None:
    body, signature, constants, expected = PER_ROW[name]
    proto = model(body, signature, constants)
    ops, remarks, result = fused(proto)
    assert ops == expected
    assert [one.kind for one in remarks] == ["passed"]
    assert result.verification["verdict"] == "EQUAL"
    same(proto, result, tmp_path, {"batch": 3})


def test_what_was_saved_is_said() -> None:
    _, (said,), _ = fused(model(*PER_ROW["the root of a sum of squares"][:3]), verify=False)
    assert (
        said.reason == "4 operations became one: 3 tensors read and written became 1 and one number per row"
    )


def test_the_evidence_knows_a_sum_of_rows_from_their_mean() -> None:
    proto = model(*PER_ROW["the root of a sum of squares"][:3])
    wrong = ir.to_proto(fused(proto)[2].model)
    (node,) = (node for node in wrong.functions[0].node if node.op_type == "ReduceSum")
    node.op_type = "ReduceMean"
    assert tautomer.verify(proto, wrong).verdict == "DIFFERENT"


HALF = "(float16[batch, 24] x, float16[batch, 24] g) => (float16[batch, 24] y)"
MISSES = {
    "another axis is reduced": (
        "s = Tanh(x) m = ReduceMean <keepdims = 1> (s, axes) t = Sub(s, m) y = Mul(t, t)",
        "(float[batch, 5, 6, 24] x) => (float[batch, 5, 6, 24] y)",
        {"axes": [1, 3]},
        "reduces axes 1, 3 of 4",
    ),
    "numbers of another axis": (
        "q = Mul(x, x) s = ReduceSum <keepdims = 0> (q, middle) y = Sqrt(s)",
        "(float[batch, 5, 24] x) => (float[batch, 24] y)",
        {"middle": [1]},
        "reduces axes 1 of 3",
    ),
    "broadcast that no operand has": (
        "s = Add(x, e) y = Mul(s, e)",
        "(float[batch, 5, 6, 24] x, float[batch, 1, 6, 1] e) => (float[batch, 5, 6, 24] y)",
        {},
        "broadcast as no operand of a kernel is",
    ),
    "double precision": (
        "a = Mul(x, x) y = Add(a, x)",
        "(double[batch, 24] x) => (double[batch, 24] y)",
        {},
        "gives DOUBLE",
    ),
    "two types": (
        "a = Cast <to = 10> (f) b = Mul(a, x) y = Add(b, g)",
        "(float16[batch, 24] x, float16[batch, 24] g, float[batch, 24] f) => (float16[batch, 24] y)",
        {},
        "rounds to FLOAT16",
    ),
    "integers": (
        "a = Cast <to = 1> (i) b = Mul(a, x) y = Add(b, x)",
        "(float[batch, 24] x, int64[batch, 24] i) => (float[batch, 24] y)",
        {},
        "INT64",
    ),
}


@pytest.mark.parametrize("name", MISSES)
def test_what_no_kernel_can_do_stays_outside_and_is_said(name: str, tmp_path: Any) -> None:
    body, signature, constants, reason = MISSES[name]
    _, remarks, result = fused(model(body, signature, constants), verify=False)
    assert reason in " ".join(one.reason for one in remarks if one.kind == "missed")
    kept = {node.op_type for node in result.model.graph}
    assert kept & {"ReduceMean", "ReduceSum", "Add", "Cast"}


ALONE = {
    "one addition": ("y = Add(x, g)", XYZ.replace(", float[batch, 5, 24] r", ""), {}),
    "a mean": ("y = ReduceMean <keepdims = 0> (x, last)", ROWS, {"last": [2]}),
    "a mean and its root": ("m = ReduceMean <keepdims = 0> (x, last) y = Sqrt(m)", ROWS, {"last": [2]}),
    "a product, its bias and nothing else": (
        "p = MatMul(x, w) s = Add(p, b) y = Identity(s)",
        "(float[batch, 24] x) => (float[batch, 8] y)",
        {"w": numbers(24, 8), "b": numbers(8)},
    ),
    "a convolution and its activation": (
        "c = Conv(x, k) y = Relu(c)",
        "(float[batch, 3, 8, 8] x) => (float[batch, 4, 6, 6] y)",
        {"k": numbers(4, 3, 3, 3)},
    ),
    "a residual between convolutions": (
        "c = Conv(x, k) s = Add(c, r) y = Relu(s)",
        "(float[batch, 4, 8, 8] x, float[batch, 4, 8, 8] r) => (float[batch, 4, 8, 8] y)",
        {"k": numbers(4, 4, 1, 1)},
    ),
    "weights, which are computed ahead": (
        "m = ReduceMean <axes = [-1]> (w) c = Sub(w, m) t = Tanh(c) y = MatMul(x, t)",
        "(float[batch, 24] x) => (float[batch, 8] y)",
        {"w": numbers(24, 8)},
        17,
    ),
    "a scale that a product takes": (
        "p = MatMul(x, w) s = Mul(p, one) y = Relu(s)",
        "(float[batch, 24] x) => (float[batch, 8] y)",
        {**ONE, "w": numbers(24, 8)},
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_gains_nothing_is_left_alone(name: str) -> None:
    ops, remarks, _ = fused(model(*ALONE[name]), verify=False)
    assert "Rowwise" not in ops
    assert not [one for one in remarks if one.kind == "passed"]


RESULTS = {
    "a sum and its softmax": (
        "s = Add(x, g) y = Softmax <axis = -1> (s)",
        "(float[batch, 24] x, float[batch, 24] g) => (float[batch, 24] y, float[batch, 24] s)",
        {},
        ["Rowwise"],
    ),
    "a norm and its inverse deviation": (
        "m = ReduceMean <keepdims = 1> (x, last) c = Sub(x, m) q = Mul(c, c) "
        "v = ReduceMean <keepdims = 1> (q, last) e = Add(v, one) r = Sqrt(e) s = Reciprocal(r) y = Mul(c, s)",
        "(float[batch, 5, 24] x) => (float[batch, 5, 24] y, float[batch, 5, 1] s)",
        {**ONE, "last": [-1]},
        ["Rowwise"],
    ),
    "two numbers of a row, without its axis": (
        "q = Mul(x, x) s = ReduceSum <keepdims = 0> (q, last) y = Log(s)",
        "(float[batch, 5, 24] x) => (float[batch, 5] y, float[batch, 5] s)",
        {"last": [2]},
        ["Rowwise", "Reshape", "Reshape"],
    ),
    "what a product reads behind it": (
        "s = Add(x, g) t = Tanh(s) y = Mul(t, s) p = MatMul(s, w) z = Mul(p, p)",
        "(float[batch, 24] x, float[batch, 24] g) => (float[batch, 24] y, float[batch, 8] z)",
        {"w": numbers(24, 8)},
        ["Rowwise", "MatMul", "Mul"],
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_region_may_give_several_values(name: str, tmp_path: Any) -> None:
    body, signature, constants, expected = RESULTS[name]
    proto = model(body, signature, constants)
    ops, _, result = fused(proto)
    assert ops == expected
    assert result.verification["verdict"] == "EQUAL"
    same(proto, result, tmp_path, {"batch": 3})


def test_the_evidence_knows_one_result_from_another() -> None:
    proto = model(*RESULTS["two numbers of a row, without its axis"][:3])
    wrong = ir.to_proto(fused(proto)[2].model)
    node = next(one for one in wrong.graph.node if one.domain == "tautomer")
    node.output[0], node.output[1] = node.output[1], node.output[0]
    assert tautomer.verify(proto, wrong).verdict == "DIFFERENT"


def test_what_is_read_before_the_last_value_is_computed_outside() -> None:
    """A path would leave the operator and come back."""
    signature = "(float[batch, 24] x, float[batch, 24] g) => (float[batch, 24] y)"
    constants = {"w": numbers(24, 24)}
    body = "s = Add(x, g) p = MatMul(s, w) t = Tanh(s) u = Mul(t, p) y = Relu(u)"
    ops, _, result = fused(model(body, signature, constants))
    assert ops == ["Add", "MatMul", "Rowwise"]
    assert result.verification["verdict"] == "EQUAL"


def test_regions_that_differ_in_a_number_share_an_operator() -> None:
    body = "a = Mul(x, k0) y = Tanh(a) b = Mul(g, k1) z = Tanh(b) c = Mul(h, k0) w = Tanh(c)"
    inputs, outputs = (", ".join(f"float[batch, 24] {name}" for name in names) for names in ("xgh", "yzw"))
    constants = {"k0": np.float32(0.3), "k1": np.float32(0.7)}
    ops, _, result = fused(model(body, f"({inputs}) => ({outputs})", constants))
    assert ops == ["Rowwise"] * 3
    assert len({node.op_type for node in result.model.graph}) == 1


def test_a_model_in_half_precision(tmp_path: Any) -> None:
    proto = model("a = Mul(x, g) b = Sigmoid(a) y = Mul(b, x)", HALF)
    ops, _, result = fused(proto)
    assert ops == ["Rowwise"]
    assert result.verification["verdict"] == "EQUAL"


def test_only_kernels_fuse() -> None:
    proto = model(*FUSED["a gate and a residual"])
    assert not tautomer.optimize(proto, target="onnxruntime").changed


def test_a_second_time_there_is_nothing_to_do() -> None:
    once = tautomer.optimize(model(*FUSED["a gate and a residual"]), target="kernels")
    assert not tautomer.optimize(once.model, target="kernels").changed


def test_the_same_model_gives_the_same_bytes(tmp_path: Any) -> None:
    proto = model(*FUSED["groups of channels"])
    for name in ("a", "b"):
        tautomer.optimize(proto, target="kernels", verify=False).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_rewrite_that_the_evidence_refuses_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from tautomer.runtime.evidence import Witness

    monkeypatch.setattr(Witness, "refuses", lambda *_: "the evidence says no")
    proto = model(*FUSED["a rational function"])
    result = tautomer.optimize(proto, target="kernels")
    assert not result.changed
    assert not as_model(result.model).functions
    assert "the evidence says no" in [one.reason for one in result.remarks]


def test_values_whose_mean_is_checked_stay(tmp_path: Any) -> None:
    from residual_models import LANGUAGE_MODEL, residual_model

    proto = residual_model(LANGUAGE_MODEL)
    result = tautomer.optimize(proto, target="kernels", norm="rms")
    assert result.verification["centred"]["norms"] == 3
    assert any(node.op_type.startswith("Rowwise") for node in result.model.graph)


def density(m: int = 3, bins: int = 16) -> onnx.ModelProto:
    """The density of a Fourier head in its real form, and the logarithm of its shares."""
    frequencies = np.pi * np.arange(1, m + 1)[:, None] * (np.arange(bins) * 2 + 1 - bins) / bins
    body = """
        a = MatMul(re, cosines) b = Add(a, half) c = MatMul(im, sines) p = Sub(b, c)
        total = ReduceSum<keepdims = 1>(p, last) q = Div(p, total) r = Add(q, tiny) y = Log(r)
    """
    constants = {
        "cosines": np.cos(frequencies).astype(np.float32),
        "sines": np.sin(frequencies).astype(np.float32),
        "half": np.float32(0.5),
        "tiny": np.float32(1e-5),
        "last": [-1],
    }
    return model(body, f"(float[batch, {m}] re, float[batch, {m}] im) => (float[batch, {bins}] y)", constants)


def test_the_density_of_a_fourier_head_is_one_kernel() -> None:
    """Its logarithm exists for few random numbers only, among which the evidence has to find some."""
    ops, said, result = fused(density())
    assert ops == ["MatMul", "Add", "MatMul", "Rowwise"] and [one.kind for one in said] == ["passed"]
    assert result.verification["verdict"] == "EQUAL"


def test_rows_are_as_long_as_the_tensors_beside_them() -> None:
    """Rows of 8 would find their part of a and b again for each of 64 numbers."""
    proto = model(
        "d = Sub (x, a) \n e = Exp (d) \n y = Mul (e, b)",
        "(float[256, 64, 8] x) => (float[256, 64, 8] y)",
        {"a": numbers(64, 8), "b": numbers(64, 8)},
    )
    (node,) = fused(proto, verify=False)[2].model.graph
    assert node.attributes["axis"].as_int() == -2
