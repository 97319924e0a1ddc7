"""Rewrites that are right but for something small: refused at their sites, and their neighbours are not."""

from __future__ import annotations

import importlib

import onnx.parser
import pytest

from tautomer.graph.reader import as_model
from tautomer.verify.neighbourhood import Neighbourhood

CONSTANTS = """<bool[6] first = {1, 0, 0, 0, 0, 0}, float zero = {0}, float low = {-1000},
    int64[1] last = {-1}, float twenty = {20}, float many = {16}, float n = {768}, float eps = {0.00001},
    float tiny = {1e-9}>"""


def said(body: str, width: int = 6) -> str:
    """What the evidence says of `new` in the place of `old`."""
    made = as_model(
        onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 21]>
    g (float[9, {width}] x, bool[9, {width}] mask) => (old, new) {CONSTANTS} {{ {body} }}""")
    )
    values = {str(value.name): value for node in made.graph for value in node.outputs}
    read = {value for node in made.graph for value in node.inputs}
    leaves = {value: value for value in made.graph.inputs if value in read}
    return Neighbourhood(made).refuses("", values["old"], values["new"], leaves)


LENGTH = """
    s = Mul (x, x) \n m = ReduceSum (s, last) \n r = Sqrt (m) \n share = Div (x, r)
    nought = Mul (x, zero) \n none = ReduceSum (nought, last) \n old = Add (share, none)
"""


def test_a_wrong_number_does_not_become_nan() -> None:
    """Where squares overflow x / inf is 0, without a correct digit, and 0 * inf NaN, as both are of inf."""
    refusal = said(f"{LENGTH} \n t = Div (x, m) \n u = Mul (t, r) \n new = Add (u, none)")
    assert "NaN in rows where the original is all 0" in refusal
    assert not said(f"{LENGTH} \n t = Reciprocal (r) \n u = Mul (x, t) \n new = Add (u, none)")


KEPT = "old = Where (mask, x, low) \n c = Cast <to = 1> (mask) \n k = ReduceSum (c, last)"


def test_a_first_key_that_is_always_kept_is_seen() -> None:
    """Masks that are made keep the first of a row, or none at all: the other way round they do not."""
    some = f"{KEPT} \n some = Greater (k, zero)"
    refusal = said(f"{some} \n f = And (first, some) \n keep = Or (mask, f) \n new = Where (keep, x, low)")
    assert "differ in exact arithmetic" in refusal
    assert not said(f"{some} \n keep = And (mask, some) \n new = Where (keep, x, low)")


SOFTPLUS = """
    s = Mul (x, many) \n p = Softplus (s) \n g = Greater (s, twenty) \n t = Where (g, s, p)
    q = ReduceSum (t, last) \n {total} \n old = Div (t, qe) \n r = ReduceSum (p, last) \n new = Div (p, r)
"""


def test_softplus_without_its_threshold_is_no_leave_for_an_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    neighbourhood = importlib.import_module("tautomer.verify.neighbourhood")
    exact_only = {"linear": True}
    refuses = Neighbourhood.refuses
    monkeypatch.setattr(Neighbourhood, "refuses", lambda self, *x: refuses(self, *x, **exact_only))
    right, wrong = (SOFTPLUS.format(total=f"qe = Add (q, {what})") for what in ("zero", "tiny"))
    assert "differ" in said(right)
    monkeypatch.setattr(neighbourhood, "_by_softplus", lambda value: True)
    assert not said(right)
    assert "differ in exact arithmetic" in said(wrong)


VARIANCE = """
    total = ReduceSum (x, last) \n mean = Div (total, {n}) \n d = Sub (x, mean) \n d2 = Mul (d, d)
    a = ReduceSum (d2, last) \n old = Add (a, eps)
    x2 = Mul (x, x) \n b = ReduceSum (x2, last) \n t2 = Mul (total, mean) \n c = Sub (b, t2)
    new = Add (c, eps)
"""


@pytest.mark.parametrize("n", ["many", "n"])
def test_what_holds_of_the_few_terms_that_are_tried_is_refused(n: str) -> None:
    """Of 16 terms sum (x - s / 16)^2 is sum x^2 - s^2 / 16; of 768 it is not."""
    assert "differ in exact arithmetic" in said(VARIANCE.format(n=n), width=768)


def test_more_perturbations_do_not_excuse_cancellation() -> None:
    """One pass loses the digits of an offset, whichever way the inputs' roundings fall."""
    body = """m = ReduceMean (x, last) \n d = Sub (x, m) \n d2 = Mul (d, d) \n old = ReduceMean (d2, last)
    x2 = Mul (x, x) \n e = ReduceMean (x2, last) \n m2 = Mul (m, m) \n new = Sub (e, m2)"""
    assert "what rounding explains" in said(body, width=64)
