"""The function bodies of the ONNX specification are recognised as the operations they expand."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import onnx
import pytest

import tautomer

# test name -> the operation it expands, as it is reported
FAMILIES = {
    "layer_normalization": "LayerNormalization",
    "rms_normalization": "RMSNormalization",
    "softmax": "Softmax",
    "logsoftmax": "LogSoftmax",
    "gelu": "Gelu",
    "attention": "ScoreAttention",
    "celu": "Celu",
    "elu": "Elu",
    "hardsigmoid": "HardSigmoid",
    "hardswish": "HardSwish",
    "leakyrelu": "LeakyRelu",
    "mish": "Mish",
    "relu": "Relu",
    "selu": "Selu",
    "shrink": "Shrink",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "swish": "Swish",
    "thresholdedrelu": "ThresholdedRelu",
    "prelu": "PRelu",
}
# No definition: the slope is a tensor of any shape. The reason given must say so.
DECLINED = {"prelu": "has a tensor entering beside its input"}


@pytest.fixture(scope="module")
def cases() -> dict[str, onnx.ModelProto]:
    """Every `_expanded` node case of the installed onnx package that belongs to a family."""
    from onnx.backend.test.case.node import collect_testcases

    pattern = re.compile(rf"test_({'|'.join(FAMILIES)})(_|$)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    return {
        case.name: case.model for case in collected if "_expanded" in case.name and pattern.match(case.name)
    }


def _family(name: str) -> str:
    return next(f for f in sorted(FAMILIES, key=len, reverse=True) if name.startswith(f"test_{f}_"))


def test_every_expanded_case_is_recognised_or_declined_with_the_true_reason(
    cases: dict[str, onnx.ModelProto], capsys: pytest.CaptureFixture[str]
) -> None:
    found: Counter[str] = Counter()
    declined: Counter[str] = Counter()
    wrong: list[str] = []
    for name, model in cases.items():
        family = _family(name)
        operations = tautomer.inspect(model)
        result = model.graph.output[0].name
        # attention ends in a transpose of its heads, and may give its scores as well
        at = [one for one in operations if one.output == result or family == "attention"]
        if any(one.op == FAMILIES[family] for one in at):
            found[family] += 1
        elif family in DECLINED and any(
            DECLINED[family] in remark.reason for remark in tautomer.explain(model)
        ):
            declined[family] += 1
        else:
            wrong.append(f"{name}: {[(one.op, one.output) for one in operations]}")
    with capsys.disabled():
        print(f"\n{'expanded cases':22} recognised declined")
        for family in FAMILIES:
            print(f"{FAMILIES[family]:22} {found[family]:10} {declined[family]:8}")
        print(f"{'total':22} {found.total():10} {declined.total():8}")
    assert not wrong
    assert found.total() >= 208
    assert found["layer_normalization"] >= 38
    assert found["attention"] >= 88


def test_attributes_of_the_expanded_norms_and_softmaxes_are_those_of_the_original_node(
    cases: dict[str, onnx.ModelProto],
) -> None:
    compared = 0
    for name, model in cases.items():
        family = _family(name)
        if family not in ("layer_normalization", "rms_normalization", "softmax", "logsoftmax"):
            continue
        (operation,) = [one for one in tautomer.inspect(model) if one.op == FAMILIES[family]]
        rank = len(model.graph.input[0].type.tensor_type.shape.dim)
        stated = re.search(r"axis(?:_negative)?_?(\d)", name)
        if stated is not None:
            axis = -int(stated[1]) if "negative" in name else int(stated[1])
            assert operation.attributes["axis"] % rank == axis % rank, name
            compared += 1
        if "norm" in family:
            expected = 0.1 if "epsilon" in name else 1e-5
            assert operation.attributes["epsilon"] == pytest.approx(expected, rel=1e-6), name
    assert compared >= 60
