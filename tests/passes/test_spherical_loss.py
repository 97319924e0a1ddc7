"""The spherical Z-loss (arXiv 1604.08859) of given logits: all of it but a gather and a sum is one kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import tautomer

onnxruntime = pytest.importorskip("onnxruntime")

# softplus((mean(z) - z[t]) / (std(z) + eps)), as its reference code writes it
LOSS = """i = Unsqueeze (t, last) \n c = GatherElements <axis = 1> (z, i) \n mu = ReduceMean (z, last)
    q = Mul (z, z) \n m2 = ReduceMean (q, last) \n mm = Mul (mu, mu) \n v = Sub (m2, mm) \n s = Sqrt (v)
    d = Sub (mu, c) \n e = Add (s, eps) \n r = Div (d, e) \n l = Softplus (r)
    y = ReduceSum <keepdims = 0> (l)"""


def rewritten(body: str) -> tuple[onnx.ModelProto, list[str], tautomer.Result]:
    source = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["": 18]>
    m (float[6, 50] z, int64[6] t) => (float y) <int64[1] last = {{-1}}, float eps = {{1e-12}}>
    {{ {body} }}""")
    result = tautomer.optimize(source, target="kernels")
    assert result.verification is not None and result.verification["verdict"] == "EQUAL"
    return source, [node.op_type.split("_")[0] for node in result.model.graph], result


def test_its_rows_are_one_kernel(tmp_path: Path) -> None:
    source, found, result = rewritten(LOSS)
    assert sorted(found) == ["GatherElements", "ReduceSum", "Rowwise", "Unsqueeze"]
    result.save(tmp_path / "ours.onnx")
    rng = np.random.default_rng(0)
    fed = {"z": rng.standard_normal((6, 50)).astype(np.float32), "t": rng.integers(0, 50, 6)}
    stock = onnxruntime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = tautomer.session(tmp_path / "ours.onnx").run(None, fed)[0]
    np.testing.assert_allclose(ours, stock.run(None, fed)[0], rtol=5e-6)  # sums of 50 in another order


def test_a_mean_over_the_batch_stays_outside() -> None:
    _, found, _ = rewritten(LOSS.replace("mu = ReduceMean (z, last)", "mu = ReduceMean <keepdims = 0> (z)"))
    assert "ReduceMean" in found
