"""An operator is replaced only where the gain measured at its size says so; the remark names the figure."""

from __future__ import annotations

from dataclasses import replace

import onnx.parser
import pytest

import tautomer
from tautomer.target import KERNELS, Target

MEASURED = ((10, 0.75), (1000, 1.5))  # small, because what is rewritten is verified, too


def target(**gains: tuple[tuple[int, float], ...]) -> Target:
    return replace(KERNELS, gains=gains)


def softmax(size: str) -> onnx.ModelProto:
    text = f'<ir_version: 9, opset_import: ["": 18]> m (float[{size}] x) => (float[{size}] y)'
    return onnx.parser.parse_model(f"{text} {{ y = Softmax <axis = -1> (x) }}")


def optimized(size: str, where: Target) -> tuple[list[tuple[str, str]], list[str]]:
    """The operators with their domain, and what `raise` says."""
    result = tautomer.optimize(softmax(size), target=where)
    operators = [(node.domain, node.op_type) for node in result.model.graph]
    return operators, [remark.reason for remark in result.remarks if remark.rule == "raise"]


@pytest.mark.parametrize(("elements", "ratio"), [(1, 0.75), (99, 0.75), (101, 1.5), (10**9, 1.5)])
def test_the_nearest_size_that_was_measured_decides(elements: int, ratio: float) -> None:
    assert target(Softmax=MEASURED).gain("Softmax", elements) == ratio


def test_what_was_not_measured_has_no_gain() -> None:
    assert target(Softmax=MEASURED).gain("Gelu", 10) is None
    assert target(Softmax=()).gain("Softmax", 1000) is None


def test_no_elements_at_all_are_few() -> None:
    assert target(Softmax=MEASURED).gain("Softmax", 0) == 0.75


def test_where_it_gains_the_operator_becomes_ours() -> None:
    operators, said = optimized("30, 100", target(Softmax=MEASURED))
    assert operators == [("tautomer", "Softmax")] and "tautomer.Softmax" in said[0]


def test_where_it_loses_the_operator_is_kept_and_the_figure_is_named() -> None:
    operators, said = optimized("3, 10", target(Softmax=MEASURED))
    assert operators == [("", "Softmax")]
    assert said == ["the runtime's own kernel takes 0.75 of the time of ours at 30 elements"]


def test_sizes_that_vary_are_taken_as_1_and_that_is_said() -> None:
    operators, said = optimized("batch, 30, 10", target(Softmax=MEASURED))
    assert operators == [("tautomer", "Softmax")]
    operators, said = optimized("batch, length, 10", target(Softmax=MEASURED))
    assert operators == [("", "Softmax")]
    assert said[0].endswith("of ours at 10 elements, the sizes that vary taken as 1")


def test_without_a_measurement_nothing_is_replaced() -> None:
    operators, said = optimized("30, 100", target())
    assert operators == [("", "Softmax")] and not said


def test_of_two_variants_with_one_name_the_file_has_one() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]> m (float[30, 20] x, float[30, 20] z) => (float[30, 30] y) '
        '{ a = Gelu <approximate = "tanh"> (x) b = Gelu <approximate = "none"> (z) '
        "t = Transpose <perm = [1, 0]> (b) y = MatMul (a, t) }"
    )
    result = tautomer.optimize(model, target=replace(target(Gelu=MEASURED), fuses_rowwise=False))
    assert [(node.domain, node.op_type) for node in result.model.graph][:2] == [
        ("tautomer", "Gelu"),
        ("", "Gelu"),
    ]
    (said,) = (remark for remark in result.remarks if remark.kind == "missed" and remark.rule == "raise")
    assert said.node == "Gelu#b" and "another variant" in said.reason
