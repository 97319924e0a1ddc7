"""What is read of log-probabilities is computed without them, where the logarithm of a sum has a kernel."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import tautomer

onnxruntime = pytest.importorskip("onnxruntime")

LOGS = "p = LogSoftmax <axis = -1> (x)"
READ = {
    "a token": f"{LOGS} \n y = GatherElements <axis = 2> (p, i)",
    "the mean": f"{LOGS} \n y = ReduceMean (p, last)",
    "the largest": f"{LOGS} \n y = ReduceMax (p, last)",
    "spelled": """h = ReduceMax (x, last) \n s = Sub (x, h) \n e = Exp (s) \n n = ReduceSum (e, last)
    l = Log (n) \n p = Sub (s, l) \n y = GatherElements <axis = 2> (p, i)""",
}
LOSSES = {
    "mean": "y = SoftmaxCrossEntropyLoss (z, t)",
    "mean of those that count": "y = SoftmaxCrossEntropyLoss <ignore_index = 2> (z, t)",
    "sum": 'y = SoftmaxCrossEntropyLoss <ignore_index = -100, reduction = "sum"> (z, t)',
    "negative log-likelihood": "p = LogSoftmax <axis = 1> (z) \n y = NegativeLogLikelihoodLoss (p, t)",
}
MISSES = {
    "all of them are an output": (READ["a token"], ", float[2, 5, 9] p", "are an output of the model"),
    "all of them are read": (f"{READ['a token']} \n q = Exp (p)", ", float[2, 5, 9] q", "(Exp) reads its"),
    "a token and the mean": (
        f"{LOGS} \n c = GatherElements <axis = -1> (p, i) \n m = ReduceMean (p, last) \n y = Add (c, m)",
        "",
        "(ReduceMean) reads its log-probabilities, too",
    ),
    "along another axis": (
        f"{LOGS} \n a = GatherElements <axis = 1> (p, i) \n y = Neg (a)",
        "",
        "(GatherElements) does not read one number",
    ),
    "over another axis": (
        "p = LogSoftmax <axis = 1> (x) \n y = GatherElements <axis = 2> (p, i)",
        "",
        "does not treat rows alike",
    ),
    "two of each row": (
        f"{LOGS} \n j = Concat <axis = 2> (i, i) \n a = GatherElements <axis = 2> (p, j)"
        " \n y = ReduceMax (a, last)",
        "",
        "(GatherElements) does not read one number",
    ),
}


def rewritten(body: str, more: str = "", target: str = "kernels", flat: bool = False) -> tuple[Any, ...]:
    inputs = "float[10, 9] z, int64[10] t" if flat else "float[2, 5, 9] x, int64[2, 5, 1] i"
    source = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["": 18]>
    m ({inputs}) => (float{"" if flat else "[2, 5, 1]"} y{more})
    <int64[1] last = {{-1}}, int64[1] zero = {{0}}, int64[1] one = {{1}}> {{ {body} }}""")
    result = tautomer.optimize(source, target=target)
    assert result.verification is None or result.verification["verdict"] == "EQUAL", result.verification
    said = [(one.kind, one.reason) for one in result.remarks if one.rule == "log-probability"]
    return Counter(node.op_type.split("_")[0] for node in result.model.graph), said, source, result


@pytest.mark.parametrize("name", [*READ, *LOSSES])
def test_the_rows_are_not_made(name: str, tmp_path: Path) -> None:
    flat = name in LOSSES
    found, said, source, result = rewritten(LOSSES[name] if flat else READ[name], flat=flat)
    assert not found["LogSoftmax"] and found["Rowwise"] and {kind for kind, _ in said} == {"passed"}, (
        found,
        said,
    )
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((10, 9)).astype(np.float32), rng.integers(0, 9, 10)
    fed = {"z": x, "t": t} if flat else {"x": x.reshape(2, 5, 9), "i": t.reshape(2, 5, 1)}
    stock = onnxruntime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {one.name: fed[one.name] for one in stock.get_inputs()}
    result.save(tmp_path / "ours.onnx")
    ours = tautomer.session(tmp_path / "ours.onnx").run(None, fed)[0]
    # sums of nine exponentials in another order
    np.testing.assert_allclose(ours, stock.run(None, fed)[0], rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_keep_them_and_say_why(name: str) -> None:
    body, more, reason = MISSES[name]
    found, said, *_ = rewritten(body, more)
    assert found["LogSoftmax"] == 1 and [(kind, reason in why) for kind, why in said] == [("missed", True)], (
        said
    )


def test_without_a_kernel_they_stay() -> None:
    assert rewritten(READ["a token"], target="onnxruntime")[0] == {"LogSoftmax": 1, "GatherElements": 1}
