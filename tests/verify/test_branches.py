"""Inputs for every branch: made where sizes decide, and named where nothing reaches one."""

from __future__ import annotations

import numpy as np
import onnx.parser

from tautomer.graph.reader import read_bytes
from tautomer.verify.branches import inputs_of_branches
from tautomer.verify.inputs import make_inputs

TEXT = """
    <ir_version: 9, opset_import: ["": 18]> m (float[a, b] x, bool flag) => (float[a, b] y) {
        n = Size (x)  limit = Constant <value: tensor = int64 {LIMIT}> ()  few = Less (n, limit)
        y = If (CONDITION) <
            then_branch = one () => (float[a, b] u) { u = Neg (x) },
            else_branch = two () => (float[a, b] v) { v = Abs (x) }
        >
    }
"""


def found(limit: int = 5, condition: str = "few", *, make: bool = True) -> tuple[list[int], list[str]]:
    """The numbers of elements of the inputs that were made, and what is left out."""
    text = TEXT.replace("LIMIT", str(limit)).replace("CONDITION", condition)
    model = read_bytes(onnx.parser.parse_model(text).SerializeToString())
    inputs = {**make_inputs(model, {"a": 2, "b": 5}, 1), "flag": np.array(True)}
    more, left = inputs_of_branches(model, model, inputs, make=make)
    return [one["x"].size for one in more], left


def test_sizes_reach_the_branch_that_the_first_leave_out() -> None:
    assert found() == ([1], [])
    assert found(limit=50) == ([64], [])


def test_branches_that_nothing_reaches_are_named() -> None:
    for sizes, left in (found(make=False), found(limit=1)):
        assert sizes == []
        assert len(left) == 1
        assert left[0].startswith("the then_branch of node '")
    assert found(limit=1000)[1][0].startswith("the else_branch")
