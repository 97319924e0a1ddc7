"""Writes of a number through a mask, as exporters write them place by place."""

from __future__ import annotations

import onnx
import pytest
from onnx import parser

import tautomer
from tautomer.graph.reader import as_model

WRITE = """
    mask = Greater(x, bound) listed = NonZero(mask) places = Transpose <perm = [1, 0]> (listed)
    flat = Reshape(mask, all) ones = Cast <to = 7> (flat) count = ReduceSum <keepdims = 1> (ones)
    number = Expand(zero, count) numbers = Reshape(number, all)
    written = ScatterND(x, places, numbers) y = Relu(written)
"""


def model(body: str) -> onnx.ModelProto:
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> g (float[4, 6] x) => (float[4, 6] y)
        <float bound = {{1.5}}, float zero = {{0}}, int64[1] all = {{-1}}> {{ {body} }}"""
    )


def ops(result: tautomer.Result) -> list[str]:
    return [node.op_type for node in as_model(result.model).graph]


def test_a_write_through_a_mask_is_a_choice() -> None:
    result = tautomer.optimize(model(WRITE))
    assert ops(result) == ["Greater", "Where", "Relu"]
    assert result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    "body",
    [
        WRITE.replace("Expand(zero, count)", "Cast <to = 1> (ones)"),  # a number for each element of the mask
        WRITE.replace("ScatterND(", 'ScatterND <reduction = "add"> ('),
        WRITE.replace("Transpose <perm = [1, 0]>", "Identity"),
    ],
)
def test_others_stay(body: str) -> None:
    remarks = tautomer.explain(model(body))
    assert not [one for one in remarks if one.rule == "masked write" and one.kind == "passed"]
