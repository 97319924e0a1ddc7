"""Sums that only the rewritten graph has: what they may cost, and whom that is granted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.classes import class_named
from tautomer.verify.interpreter import run
from tautomer.verify.new_sums import longest_new_sums
from tautomer.verify.numerics import Score, judge_models
from tautomer.verify.single import Float32

TERMS, WIDTH, UNIT = 96, 8, 2.0**-24
ORDERS = {
    "first": "s = MatMul (a, b) \n y = MatMul (s, c)",
    "second": "s = MatMul (b, c) \n y = MatMul (a, s)",
    "first, turned": """
        at = Transpose <perm = [1, 0]> (a) \n bt = Transpose <perm = [1, 0]> (b) \n st = MatMul (bt, at)
        s = Transpose <perm = [1, 0]> (st) \n y = MatMul (s, c)""",
}


def model(body: str) -> ir.Model:
    n, d = TERMS, WIDTH
    return as_model(
        onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["": 18]>
    m (float[{n}, {d}] a, float[{d}, {n}] b, float[{n}, {d}] c) => (float[{n}, {d}] y, float[{n}, {d}] z)
    <float eps = {{0.000001}}, float one = {{1}}, int64[1] last = {{-1}}> {{ {body} \n z = Neg (c) }}""")
    )


def narrow(made: ir.Model, change: Callable[[dict[str, Any]], None] = lambda y: None) -> Callable[..., Any]:
    """A model in float32, whose results are then changed."""

    def results(inputs: Mapping[str, Any]) -> dict[str, Any]:
        m = Float32()
        with np.errstate(all="ignore"):
            found = {k: m.array(y).astype(np.float32) for k, y in run(made, m, inputs).items()}
        change(found)
        return found

    return results


@pytest.mark.parametrize(
    ("rewritten", "expected"), [("second", {"y": TERMS}), ("first", {}), ("first, turned", {})]
)
def test_which_sums_are_new_and_who_reads_them(rewritten: str, expected: dict[str, int]) -> None:
    assert longest_new_sums(model(ORDERS["first"]), model(ORDERS[rewritten]), {}) == expected


@pytest.mark.parametrize(
    ("output", "units", "identical", "rewritten", "accepted"),
    [
        ("y", 30, True, "second", True),
        ("y", 30, False, "second", False),
        ("y", 30, True, "first, turned", False),
        ("y", 300, True, "second", False),
        ("z", 30, True, "second", False),
    ],
    ids=["new sum", "not shown to be one function", "no new sum", "too much of it", "another output"],
)
def test_only_what_reads_a_new_sum_may_lose_more(
    output: str, units: int, identical: bool, rewritten: str, accepted: bool
) -> None:
    def worse(found: dict[str, Any]) -> None:
        found[output] = found[output] * np.float32(1 + units * UNIT)

    original, other = model(ORDERS["first"]), model(ORDERS[rewritten])
    runs = narrow(original), narrow(other, worse)
    scores = judge_models(original, other, *runs, sizes={}, classes=(), identical=identical)
    assert scores[0].accepted == accepted, scores


FEATURES = """
    fa = Elu (a) \n pa = Add (fa, one) \n fb = Elu (b) \n pb = Add (fb, one)
    z0 = {sums} \n ze = Add (z0, eps)
"""
LINEAR = "w = Div (s, ze) \n y = MatMul (w, c)"
QUADRATIC = FEATURES.format(sums="ReduceSum (s, last)").replace("z0", "s = MatMul (pa, pb) \n z0", 1) + LINEAR
REASSOCIATED = (
    FEATURES.format(sums="MatMul (pa, sb)").replace("z0", "sb = ReduceSum (pb, last) \n z0", 1)
    + "t = MatMul (pb, c) \n u = MatMul (pa, t) \n y = Div (u, ze)"
)


def overflowing(rewritten: str, change: Callable[[dict[str, Any]], None] = lambda y: None) -> list[Score]:
    original, other = model(QUADRATIC), model(rewritten)
    runs = narrow(original), narrow(other, change)
    classes = (class_named("squares overflow"),)
    return judge_models(original, other, *runs, sizes={}, classes=classes, identical=True)


def test_where_nothing_of_the_original_is_right_inputs_overflow_one_at_a_time() -> None:
    """All products of two inputs of 1e19 overflow: 0 or NaN in each row, and neither is a digit of it."""
    original = model(QUADRATIC)
    large = {
        str(x.name): class_named("squares overflow").rows(x.shape.numpy(), np.float32, 1)
        for x in original.graph.inputs
    }
    exact, own = run(original, Float64(), large)["y"], narrow(original)(large)["y"]
    assert np.isfinite(exact).all() and not np.isfinite(exact - own)[own != 0].any()
    scores = overflowing(REASSOCIATED)
    named = [f"squares overflow, '{name}' alone" for name in "abc"]
    assert [s.class_name for s in scores] == ["as made", "squares overflow", *named]
    assert all(s.accepted for s in scores) and scores[1].worst_row[0] == "z"


def no_numbers(found: dict[str, Any]) -> None:
    found["y"] = np.where(np.abs(found["y"]) < 1e18, found["y"], np.float32(np.nan))


def lost(found: dict[str, Any]) -> None:
    found["y"] = np.where(found["y"] == 0, np.float32(np.nan), found["y"])


def another_output(found: dict[str, Any]) -> None:
    if np.isnan(found["y"]).any():
        found["z"] = found["z"] * np.float32(np.nan)


@pytest.mark.parametrize(
    ("rewritten", "change"),
    [(REASSOCIATED, no_numbers), (QUADRATIC, lost), (REASSOCIATED, another_output)],
    ids=["NaN with one large input", "NaN without a new product", "NaN in what reads none"],
)
def test_what_was_a_number_stays_one(rewritten: str, change: Callable[[dict[str, Any]], None]) -> None:
    assert not all(s.accepted for s in overflowing(rewritten, change))
