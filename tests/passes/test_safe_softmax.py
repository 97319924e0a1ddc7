"""safe softmax: a softmax and the guard against NaN behind it become one operator, and nothing else does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import tautomer

GUARDED = """
    s = Softmax <axis = -1> (x)
    asked = IsNaN (s)
    y = Where (asked, zero, s)
"""


def model(body: str = GUARDED, outputs: str = "float[batch, 5, 7] y", zero: float = 0.0) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 18]> m (float[batch, 5, 7] x) => ({outputs})'
        f" <float zero = {{{zero}}}> {{ {body} }}"
    )


def operators(proto: onnx.ModelProto, target: str = "kernels") -> dict[str, int]:
    result = tautomer.optimize(proto, target=target)
    assert result.verification is None or result.verification["verdict"] == "EQUAL"
    return dict(Counter(f"{node.domain or 'onnx'}.{node.op_type}" for node in result.model.graph))


def test_a_guarded_softmax_becomes_one_operator() -> None:
    assert operators(model()) == {"tautomer.SafeSoftmax": 1}


def test_only_where_there_is_a_kernel_for_it() -> None:
    assert operators(model(), "onnxruntime") == {"onnx.Softmax": 1, "onnx.IsNaN": 1, "onnx.Where": 1}


@pytest.mark.parametrize(
    ("body", "outputs", "zero"),
    [
        (GUARDED, "float[batch, 5, 7] y", 0.5),
        (GUARDED, "float[batch, 5, 7] y, float[batch, 5, 7] s", 0.0),
        (GUARDED, "float[batch, 5, 7] y, bool[batch, 5, 7] asked", 0.0),
        (GUARDED + "z = Neg (s)", "float[batch, 5, 7] y, float[batch, 5, 7] z", 0.0),
        (GUARDED.replace("(asked, zero, s)", "(asked, s, zero)"), "float[batch, 5, 7] y", 0.0),
        (GUARDED.replace("IsNaN (s)", "IsNaN (x)"), "float[batch, 5, 7] y", 0.0),
        (GUARDED.replace("zero, s", "x, s"), "float[batch, 5, 7] y", 0.0),
        (GUARDED.replace("axis = -1", "axis = 1"), "float[batch, 5, 7] y", 0.0),
    ],
    ids=[
        "another number",
        "the softmax is an output",
        "the answer is an output",
        "another reader",
        "the other way round",
        "another question",
        "no constant",
        "another axis",
    ],
)
def test_near_misses_keep_their_guard(body: str, outputs: str, zero: float) -> None:
    assert "tautomer.SafeSoftmax" not in operators(model(body, outputs, zero))


def test_masked_rows_and_rows_that_are_no_numbers_give_zero_by_the_kernel_and_by_the_body(
    tmp_path: Path,
) -> None:
    tautomer.optimize(model(), target="kernels").save(tmp_path / "safe.onnx")
    x = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(np.float32)
    x[0, 0], x[0, 1, 2], x[0, 2, 6], x[1, 0, :4], x[1, 1] = -np.inf, np.nan, np.inf, -np.inf, -3e38
    cpu = ["CPUExecutionProvider"]
    expected = onnxruntime.InferenceSession(model().SerializeToString(), providers=cpu).run(None, {"x": x})[0]
    assert not expected[0, :3].any() and expected[1].all(-1).sum() == 4
    bodies = onnxruntime.InferenceSession(tmp_path / "safe.onnx", providers=cpu)
    for session in (bodies, tautomer.session(tmp_path / "safe.onnx")):
        # exponentials of numbers of order 1 and sums of 7 of them: a few roundings of float32
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-6)
