"""Batch norms of inference in a chain: a factor and a shift, and everywhere else as they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import tautomer
from tautomer.graph.reader import as_model

NORM = "n = BatchNormalization <epsilon = 1e-3> (x, s, b, m, v)"
DICE = f"{NORM} p = Sigmoid(n) q = Sub(one, p) h = Mul(a, q) i = Mul(h, x) j = Mul(p, x) y = Add(i, j)"


def model(body: str, shape: str) -> onnx.ModelProto:
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{shape}] x) => (float[{shape}] y) {{ {body} }}'
    )
    rng = np.random.default_rng(0)
    stored = {name: rng.uniform(0.5, 2.0, 4).astype("f") for name in "sbmv"}
    stored |= {"one": np.float32(1), "a": rng.uniform(0.1, 0.5, (4, 1, 1) if shape.count(",") > 1 else 4)}
    tensors = (numpy_helper.from_array(np.asarray(array, "f"), name) for name, array in stored.items())
    proto.graph.initializer.extend(tensors)
    return proto


@pytest.mark.parametrize("shape", ["6, 4", "2, 4, 3, 5"])
def test_a_chain_reads_a_factor_and_a_shift(shape: str) -> None:
    result = tautomer.optimize(model(DICE, shape), target="kernels")
    assert result.verification["verdict"] == "EQUAL"
    (node,) = list(as_model(result.model).graph)
    assert len(node.inputs) == 4  # x, the factor, the shift, alpha


@pytest.mark.parametrize(
    "body", [NORM.replace("n =", "y ="), DICE.replace("(x, s, b, m, v)", "(x, s, b, m, x1)")]
)
def test_others_stay(body: str) -> None:
    if "x1" in body:  # a variance that is computed
        body = f"x0 = ReduceMean <axes = [0], keepdims = 0> (x) x1 = Mul(x0, x0) {body}"
    remarks = tautomer.explain(model(body, "6, 4"), target="kernels")
    assert not [one for one in remarks if one.rule == "fold batch norm"]
