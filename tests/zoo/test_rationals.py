"""Rational functions: written by Horner's rule, and refused where they divide by what can vanish."""

import pytest

import tautomer
from tautomer.graph.reader import as_model

from .rationals import ABOVE, SPELLINGS, VANISHING, powers
from .unary import of_x


@pytest.mark.parametrize("target", ["native", "onnx"])
def test_powers_become_horners_rule(target: str) -> None:
    model = next(case.model() for case in SPELLINGS if case.name == "rational_sizes")
    result = tautomer.optimize(model, target=target)
    ops = [node.op_type for node in as_model(result.model).graph]
    assert "Pow" not in ops
    assert ops.count("Mul") == 9
    again = tautomer.optimize(result.model, target=target)
    assert not [remark for remark in again.remarks if remark.kind == "passed"]


@pytest.mark.parametrize("name", VANISHING)
def test_what_can_vanish_is_not_divided_by(name: str) -> None:
    below, reason = VANISHING[name]
    model = of_x(lambda s, x: s.Div(powers(s, x, ABOVE), below(s, x)))
    told = [one for one in tautomer.explain(model) if one.op == "Rational"]
    assert [one.kind for one in told] == ["missed"]
    assert reason in told[0].reason
