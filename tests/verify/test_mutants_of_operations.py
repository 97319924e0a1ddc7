"""Operations of the literature that are written wrong: the evidence refuses each at its site.

right:  a graph that is recognised   ->   one node
wrong:  the same, with a slip in the node that takes its place
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import tautomer
from tautomer.passes import fold_batch_norm
from tautomer.passes.workspace import Workspace
from tests.zoo import NEAR_MISSES, SPELLINGS

CASES = {case.name: case for case in (*SPELLINGS, *NEAR_MISSES)}
Wrong = Callable[[ir.Graph], None]


def swapped(op: str, other: str, which: int = 0) -> Wrong:
    """Another operator in the place of one."""

    def wrong(body: ir.Graph) -> None:
        [node for node in body if node.op_type == op][which].op_type = other

    return wrong


def number(old: float, new: float) -> Wrong:
    """Another number in the place of one."""

    def wrong(body: ir.Graph) -> None:
        held = next(node for node in body if node.op_type == "Constant" and _number(node) == np.float32(old))
        held.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.float32(new)))

    return wrong


def exchanged(op: str, which: int = 0) -> Wrong:
    """The operands of an operator in each other's place."""

    def wrong(body: ir.Graph) -> None:
        node = [node for node in body if node.op_type == op][which]
        first, second = node.inputs
        node.replace_input_with(0, second)
        node.replace_input_with(1, first)

    return wrong


def left_out(op: str, which: int = 0) -> Wrong:
    """Only the first operand of an operator."""

    def wrong(body: ir.Graph) -> None:
        node = [node for node in body if node.op_type == op][which]
        ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])

    return wrong


def _number(node: ir.Node) -> np.float32 | None:
    array = node.attributes["value"].as_tensor().numpy() if "value" in node.attributes else np.zeros(2)
    return np.float32(array) if array.size == 1 and array.dtype == np.float32 else None


# the spelling, and what goes wrong in the body of the operator that takes its place
SITES: dict[str, tuple[str, Wrong]] = {
    "a sum for the mean of squares": ("group_norm_means", swapped("ReduceMean", "ReduceSum", -1)),
    "another epsilon of EvoNorm": ("evo_norm_s0_timm", number(1e-5, 1.1e-5)),
    "no epsilon": ("evo_norm_s0_timm", left_out("Add")),
    "no root": ("evo_norm_s0_timm", left_out("Sqrt")),
    "no gate": ("evo_norm_s0_timm", swapped("Sigmoid", "Identity")),
    "the smaller denominator": ("evo_norm_b0_timm", swapped("Max", "Min")),
    "alpha on the other side": ("dice_folded", exchanged("Sub")),
    "no shift": ("dice_folded", left_out("Add")),
    "an epsilon of 1e-6": ("l2_norm_squares", number(1e-12, 1e-6)),
    "epsilon beside the length": ("l2_norm_squares", swapped("Max", "Add")),
    "the bound itself falls": ("bounded_relu_neurons", swapped("Greater", "GreaterOrEqual")),
    "the bound of a layer falls": ("bounded_relu_layer", swapped("Greater", "GreaterOrEqual")),
    "the threshold falls": ("fat_relu_below", swapped("Less", "LessOrEqual")),
    "a shift that is added": ("shifted_relu_neurons", swapped("Sub", "Add")),
    "a slope of 19": ("hybrid_relu_neurons", number(20.0, 19.0)),
    "squares for cubes": ("poly_norm_reciprocal", number(3.0, 2.0)),
}


@pytest.mark.parametrize("name", SITES)
def test_a_wrong_operator_is_refused_at_its_site(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spelling, wrong = SITES[name]
    declare = Workspace.declare

    def misdeclared(work: Workspace, function: ir.Function) -> bool:
        wrong(function.graph)
        return declare(work, function)

    monkeypatch.setattr(Workspace, "declare", misdeclared)
    done = tautomer.optimize(CASES[spelling].model(), target="kernels")
    told = [one for one in done.remarks if one.rule == "fuse rowwise"]
    assert {one.kind for one in told} == {"missed"}
    assert any(said in told[0].reason for said in ("differ", "changes sides", "what rounding explains")), told


@pytest.mark.parametrize("lost", ["shift", "factor"])
def test_a_batch_norm_that_loses_a_number_is_refused(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fold_batch_norm._affine

    def wrong(*arguments: Any) -> ir.Value:
        result = right(*arguments).producer()
        assert result is not None
        if lost == "shift":
            return result.inputs[0]
        result.replace_input_with(0, arguments[2].now(arguments[1].inputs[0]))
        return result.outputs[0]

    monkeypatch.setattr(fold_batch_norm, "_affine", wrong)
    done = tautomer.optimize(CASES["dice_statistics"].model(), target="kernels")
    told = [one for one in done.remarks if one.rule == "fold batch norm"]
    assert {one.kind for one in told} == {"missed"} and "differ in exact arithmetic" in told[0].reason


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("fat_relu_where", "fat_relu_below", "EQUAL"),
        ("fat_relu_where", "not_fat_relu_above", "DIFFERENT"),
        ("thresholded_relu_as_one_node", "fat_relu_below", "DIFFERENT"),
        ("bounded_relu_neurons", "not_bounded_relu_at_the_bound", "DIFFERENT"),
        ("shrink_soft", "shrink_as_one_node", "EQUAL"),
    ],
)
def test_models_that_part_at_a_threshold_only_are_told_apart(one: str, other: str, verdict: str) -> None:
    found = tautomer.verify(CASES[one].model(), CASES[other].model())
    assert found.verdict == verdict
    assert ("where a comparison changes sides" in found.reason) is (verdict == "DIFFERENT")
