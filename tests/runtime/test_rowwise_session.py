"""Rowwise operators in a session: by kernels, by their functions, for every size; and hostile functions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import tautomer
from tautomer.errors import MissingToolError
from tautomer.runtime.compiler import find

onnxruntime = pytest.importorskip("onnxruntime")
CPU = ["CPUExecutionProvider"]
RANDOM = np.random.default_rng(0)

# one file, so that there is one library: pointwise with a gate and two results; rows of two axes beside what
# has some of the axes before, with a number for each; groups of channels; numbers per row alone
BODY = """
    s = Sigmoid(g) y4 = Mul(x, s) y0 = Add(y4, x)
    q = ReduceSumSquare <keepdims = 1> (x, two) y5 = Sqrt(q) u = Add(y5, one) d = Div(x, u)
    k = ReduceMax <keepdims = 1> (g, channels) n = ReduceMax <keepdims = 1> (g, example)
    i = Add(d, k) j = Mul(i, n) o = Mul(j, channel) y1 = Relu(o)
    v = Reshape(x, split) m = ReduceMean <keepdims = 1> (v, last) c = Sub(v, m) z = Shape(x) b = Reshape(c, z)
    e = Mul(b, channel) f = Add(e, per_example) y2 = Tanh(f)
    h = Mul(x, half) y3 = ReduceLogSumExp <keepdims = 0> (h, two)
"""
SHAPE = "float[batch, 6, 2, width]"
CONSTANTS = {
    "two": np.array([2, 3]),
    "channels": np.array([1]),
    "example": np.array([1, 2, 3]),
    "last": np.array([2]),
    "split": np.array([0, 3, -1]),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "channel": RANDOM.standard_normal((6, 1, 1)).astype("f"),
    "per_example": RANDOM.standard_normal((6, 1, 1)).astype("f"),
}


def _compiler() -> bool:
    try:
        find()
    except MissingToolError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not _compiler(), reason="no C++ compiler")


def source() -> onnx.ModelProto:
    others = "float[batch, 6] y3", f"{SHAPE} y4", "float[batch, 6, 1, 1] y5"
    outputs = ", ".join((*(f"{SHAPE} y{i}" for i in range(3)), *others))
    text = f'<ir_version: 9, opset_import: ["": 18]> m ({SHAPE} x, {SHAPE} g) => ({outputs}) {{ {BODY} }}'
    proto = onnx.parser.parse_model(text)
    stored = (numpy_helper.from_array(array, name) for name, array in CONSTANTS.items())
    proto.graph.initializer.extend(stored)
    return proto


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rowwise") / "fused.onnx"
    result = tautomer.optimize(source(), target="kernels")
    assert result.verification["verdict"] == "EQUAL"
    left = [node.op_type for node in result.model.graph if node.domain != "tautomer"]
    assert len(result.model.functions) == 4 and left == ["ReduceMax", "ReduceMax", "Reshape"]
    result.save(path)
    return path


def fed(batch: int, width: int) -> dict[str, Any]:
    return {name: RANDOM.standard_normal((batch, 6, 2, width)).astype("f") for name in "xg"}


@needs_compiler
def test_kernels_give_what_the_model_gave_for_every_size(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tautomer.session"):
        ours = tautomer.session(file, intra_op_num_threads=2)
    assert not caplog.records
    stock = onnxruntime.InferenceSession(source().SerializeToString(), providers=CPU)
    bodies = onnxruntime.InferenceSession(file, providers=CPU)
    # one element, around a vector, around four, more than a block, more than one task
    empty = ours.run(None, fed(0, 3))  # which stock onnxruntime does not reshape
    assert [y.shape for y in empty[:5]] == [*[(0, 6, 2, 3)] * 3, (0, 6), (0, 6, 2, 3)]
    for batch, width in ((1, 1), (2, 7), (1, 8), (3, 9), (1, 33), (2, 2049), (40, 100)):
        inputs = fed(batch, width)
        expected = stock.run(None, inputs)
        for session in (ours, bodies):
            for a, b in zip(expected, session.run(None, inputs), strict=True):
                # functions within a few units in the last place, of numbers of order 1
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


@needs_compiler
def test_rows_of_nothing_have_their_numbers(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 18]>
        m (float[batch, width] x) => (float[batch, 1] y) {
            last = Constant <value_ints = [1]> () h = Exp(x) y = ReduceLogSum <keepdims = 1> (h, last) }"""
    tautomer.optimize(onnx.parser.parse_model(text), target="kernels").save(tmp_path / "fused.onnx")
    found = tautomer.session(tmp_path / "fused.onnx").run(None, {"x": np.empty((3, 0), "f")})[0]
    np.testing.assert_array_equal(found, np.full((3, 1), -np.inf))  # the logarithm of 0


# x / max(sqrt(variance of batches + e), v x + sqrt(variance + e)) * g + b: v x may be nearly minus the root
EVONORM_B0 = """<ir_version: 9, opset_import: ["": 18]>
evonorm (float[batch, 6, h, w] x) => (float[batch, 6, h, w] y) {
    m = ReduceMean <keepdims = 1> (x, axes) c = Sub(x, m) q = Mul(c, c)
    i = ReduceMean <keepdims = 1> (q, axes) j = Add(i, e) r = Sqrt(j) u = Mul(x, v)
    n = Add(u, r) k = Max(n, floor) d = Div(x, k) o = Mul(d, g) y = Add(o, b)
}"""


@needs_compiler
def test_a_formula_that_cancels_on_some_inputs_keeps_its_kernel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proto = onnx.parser.parse_model(EVONORM_B0)
    channels = {name: RANDOM.uniform(0.5, 1.5, (1, 6, 1, 1)).astype("f") for name in ("v", "g", "b", "floor")}
    stored = {"axes": np.array([2, 3]), "e": np.float32(1e-5), **channels}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    result = tautomer.optimize(proto, target="kernels")
    assert [node.domain for node in result.model.graph] == ["tautomer"]
    result.save(tmp_path / "b0.onnx")
    with caplog.at_level(logging.WARNING, "tautomer.session"):
        ours = tautomer.session(tmp_path / "b0.onnx")
    assert not caplog.records
    inputs = {"x": RANDOM.standard_normal((2, 6, 5, 7)).astype("f")}
    stock = onnxruntime.InferenceSession(proto.SerializeToString(), providers=CPU)
    # the denominator is at least the root of one half, and the sum in it of order 1
    np.testing.assert_allclose(ours.run(None, inputs)[0], stock.run(None, inputs)[0], rtol=1e-5, atol=5e-6)


def hostile(proto: onnx.ModelProto, how: str) -> onnx.ModelProto:
    """The file with a function that somebody changed by hand."""
    function = next(one for one in proto.functions if any(node.op_type == "Sqrt" for node in one.node))
    node = next(one for one in function.node if one.op_type == "Sqrt")
    if how == "another operator":
        node.op_type = "Exp"
    elif how == "a name that is code":
        name = 'Rowwise_"; system("id"); //'
        user = next(one for one in proto.graph.node if one.op_type == function.name)
        function.name = user.op_type = name
    elif how == "a result under another name":
        next(one for one in function.node if one.output[0] == "y").output[0] = "y1"
        function.output[0] = "y1"
    elif how == "other axes on the node":
        user = next(one for one in proto.graph.node if one.op_type == function.name)
        next(one for one in user.attribute if one.name == "axis").i = -1
    return proto


@needs_compiler
@pytest.mark.parametrize(
    "how",
    ["another operator", "a name that is code", "other axes on the node", "a result under another name"],
)
def test_a_function_that_is_not_ours_runs_as_it_is_written(
    file: Path, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    proto = hostile(onnx.load(file), how)
    del proto.graph.output[2:]
    del proto.graph.output[0]
    used = [node for node in proto.graph.node if node.output[0] in ("k", "n", "y1")]
    del proto.graph.node[:]
    proto.graph.node.extend(used)
    onnx.save(proto, tmp_path / "hostile.onnx")
    with caplog.at_level(logging.WARNING, "tautomer.session"):
        session = tautomer.session(tmp_path / "hostile.onnx")
    assert "runs without native kernels" in caplog.text
    inputs = fed(2, 5)
    stock = onnxruntime.InferenceSession(tmp_path / "hostile.onnx", providers=CPU)
    np.testing.assert_array_equal(session.run(None, inputs)[0], stock.run(None, inputs)[0])
