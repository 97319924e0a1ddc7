"""ONNX's own Attention becomes our operator too: what it says of masks, positions and numbers is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import tautomer
from tautomer.target import KERNELS

onnxruntime = pytest.importorskip("onnxruntime")

TARGET = replace(KERNELS, attention={"softmax": ((1, 2.0),)})
ROWS, COLUMNS = 3, 5
SHAPES = {"q": (2, 4, ROWS, 6), "k": (2, 2, COLUMNS, 6), "v": (2, 2, COLUMNS, 3)}
CASES = {
    "alone": ("", "softmax"),
    "its own scale": ("<scale = 0.3>", "softmax"),
    "a soft cap": ("<softcap = 1.5>", "softmax_softcap"),
    "causal from the first key": ("<is_causal = 1>", "softmax_causalstart"),
}
TRIANGLE = np.tril(np.ones((ROWS, COLUMNS), bool), COLUMNS - ROWS)
STORED = {
    "nothing masked": (np.ones((1, 1, ROWS, COLUMNS), bool), "softmax"),
    "nothing added": (np.zeros((ROWS, COLUMNS), np.float32), "softmax"),
    "a triangle of truths": (TRIANGLE, "softmax_causal"),
    "a triangle that is added": (np.where(TRIANGLE, 0.0, -np.inf).astype(np.float32), "softmax_causal"),
}
MISSES = {
    "a cache": ("", "y, a, b = Attention (q, k, v, , p, w)", "this Attention has a cache"),
    "its scores are read": ("", "y, , , z = Attention (q, k, v)", "other results than y"),
    "a mask": (f", bool[{ROWS},{COLUMNS}] m", "y = Attention (q, k, v, m)", "0 where its mask leaves no key"),
}


def model(node: str, more: str = "") -> onnx.ModelProto:
    inputs = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in SHAPES.items())
    results = f"float[2,4,{ROWS},3] y" + (f", float[2,4,{ROWS},{COLUMNS}] z" if "z" in node else "")
    text = f'<ir_version: 11, opset_import: ["": 23]> g ({inputs}{more}) => ({results}) {{ {node} }}'
    return onnx.parser.parse_model(text)


def becomes(source: onnx.ModelProto, form: str, folder: Path) -> None:
    """One operator of ours, equal, and the same by stock onnxruntime."""
    result = tautomer.optimize(source, target=TARGET)
    assert [node.op_type for node in result.model.graph] == [f"ScoreAttention_{form}_hhhh"], result.remarks
    assert result.verification["verdict"] == "EQUAL"
    random = np.random.default_rng(0)
    fed = {key: random.standard_normal(shape).astype(np.float32) for key, shape in SHAPES.items()}
    result.save(folder / "fused.onnx")
    before, after = (
        onnxruntime.InferenceSession(x, providers=["CPUExecutionProvider"]).run(None, fed)[0]
        for x in (source.SerializeToString(), folder / "fused.onnx")
    )
    # sums of a few products of order 1, in another order
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_node_becomes_one_of_ours(name: str, tmp_path: Path) -> None:
    attributes, form = CASES[name]
    becomes(model(f"y = Attention {attributes} (q, k, v)"), form, tmp_path)


@pytest.mark.parametrize("name", STORED)
def test_a_stored_mask_is_what_it_says(name: str, tmp_path: Path) -> None:
    mask, form = STORED[name]
    source = model("y = Attention (q, k, v, m)")
    source.graph.initializer.append(numpy_helper.from_array(mask, "m"))
    becomes(source, form, tmp_path)


@pytest.mark.parametrize("name", MISSES)
def test_what_it_also_does_keeps_it(name: str) -> None:
    inputs, node, reason = MISSES[name]
    cache = ", float[2,2,1,6] p, float[2,2,1,3] w" if name == "a cache" else ""
    result = tautomer.optimize(model(node, inputs + cache), target=TARGET, verify=False)
    assert "Attention" in result.after
    (said,) = [one.reason for one in result.remarks if one.op == "ScoreAttention"]
    assert reason in said
