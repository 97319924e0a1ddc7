"""Models rewritten for our kernels: verified, run by tautomer.session, and by stock onnxruntime as well."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper

import tautomer
from tautomer.errors import MissingToolError
from tautomer.runtime.compiler import find

WIDTH = 24
BODY = """
    h = MatMul (x, w)
    n = LayerNormalization <axis = -1, epsilon = 0.001> (h, g, b)
    u = MatMul (n, v)
    s = Sigmoid (u)
    t = Mul (s, u)
    k = MatMul (n, w)
    gated = Mul (t, k)
    y = Add (gated, h)
"""


def _compiler() -> bool:
    try:
        find()
    except MissingToolError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _compiler(), reason="no C++ compiler")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    stream = f"float[batch, 3, {WIDTH}]"
    text = f'<ir_version: 9, opset_import: ["": 18]> m ({stream} x) => ({stream} y)'
    proto = onnx.parser.parse_model(f"{text} {{ {BODY} }}")
    rng = np.random.default_rng(0)
    for name, shape in {"w": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "g": (WIDTH,), "b": (WIDTH,)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype("f"), name))
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_operations_become_ours_are_verified_and_run_by_kernels_and_by_their_bodies(
    model: Path, tmp_path: Path
) -> None:
    result = tautomer.optimize(model, target="kernels", norm="ln")
    ours = Counter(node.op_type for node in result.model.graph if node.domain == "tautomer")
    # the gated unit and the residual addition behind it are one pass over memory
    assert sorted(name[:8] for name in ours) == ["LayerNor", "Rowwise_"]
    assert result.verification["verdict"] == "EQUAL"
    result.save(tmp_path / "fast.onnx")
    x = {"x": np.random.default_rng(1).standard_normal((2, 3, WIDTH)).astype("f")}
    cpu = ["CPUExecutionProvider"]
    expected = onnxruntime.InferenceSession(model, providers=cpu).run(None, x)[0]
    bodies = onnxruntime.InferenceSession(tmp_path / "fast.onnx", providers=cpu).run(None, x)[0]
    kernels = tautomer.session(tmp_path / "fast.onnx").run(None, x)[0]
    # products of 24 terms of order 1 through two matrices: 1e-5 of the largest output is a few roundings
    scale = np.abs(expected).max()
    np.testing.assert_allclose(bodies, expected, atol=1e-5 * scale)
    np.testing.assert_allclose(kernels, expected, atol=1e-5 * scale)


def test_a_file_that_was_rewritten_for_our_kernels_is_not_rewritten_again(model: Path) -> None:
    once = tautomer.optimize(model, target="kernels")
    assert not tautomer.optimize(once.model, target="kernels").changed


def test_without_our_kernels_nothing_becomes_ours(model: Path) -> None:
    result = tautomer.optimize(model)
    assert not [node for node in result.model.graph if node.domain == "tautomer"]


def test_residual_sums_and_their_norms_run_as_one_kernel_whose_results_lie_in_the_inputs_places(
    tmp_path: Path,
) -> None:
    """Each reads both results of the one before, and nothing else does: onnxruntime may reuse all of them."""
    text = f"""<ir_version: 9, opset_import: ["": 18]>
    m (float[batch, 3, {WIDTH}] x, float[batch, 3, {WIDTH}] r) => (float[batch, 3, {WIDTH}] y) {{
        a = Tanh (x) b = Tanh (r)
        s1 = Add (a, b)  n1 = LayerNormalization <axis = -1, epsilon = 0.001> (s1, g, c)
        s2 = Add (n1, s1)  n2 = LayerNormalization <axis = -1, epsilon = 0.001> (s2, g, c)
        s3 = Add (s2, n2)  n3 = LayerNormalization <axis = -1, epsilon = 0.001> (s3, c, g)
        y = Mul (n3, s3)
    }}"""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(3)
    for name in "gc":
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(WIDTH).astype("f"), name))
    result = tautomer.optimize(proto, target="kernels", norm="ln")
    ours = Counter(node.op_type for node in result.model.graph if node.domain == "tautomer")
    assert ours == {"AddLayerNormalizationWithSum": 3} and result.verification["verdict"] == "EQUAL"
    result.save(tmp_path / "joined.onnx")
    fed = {name: rng.standard_normal((5, 3, WIDTH)).astype("f") for name in "xr"}
    cpu = ["CPUExecutionProvider"]
    expected = onnxruntime.InferenceSession(proto.SerializeToString(), providers=cpu).run(None, fed)[0]
    for session in (
        tautomer.session(tmp_path / "joined.onnx"),
        onnxruntime.InferenceSession(tmp_path / "joined.onnx", providers=cpu),
    ):
        # a few roundings of float32 through three norms
        np.testing.assert_allclose(session.run(None, fed)[0], expected, rtol=1e-5, atol=1e-5)
