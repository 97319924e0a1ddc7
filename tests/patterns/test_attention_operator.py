"""The names of attention operators say their forms."""

from __future__ import annotations

from itertools import product

import pytest

from tautomer.errors import InputError
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.operators import AttentionOperator, operator_named
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS


def _forms() -> list[AttentionForm]:
    forms = []
    for score, mask, causal, empty in product(
        SCORE_FUNCTIONS, ("", "additive", "boolean"), ("", "end", "start"), ("nan", "zero", "mean")
    ):
        for flags in product((False, True), repeat=5):
            named = dict(zip(("window", "lengths", "alibi", "softcap", "sink"), flags, strict=True))
            power = 15 if score == "softplus_reweighted" else 0
            try:
                forms.append(
                    AttentionForm(score, mask=mask, causal=causal, empty=empty, power=power, **named)
                )  # type: ignore[arg-type]
            except InputError:
                continue
    return forms


def test_every_form_has_a_name_of_its_own_from_which_it_is_read() -> None:
    forms = _forms()
    operators = [AttentionOperator(form, layouts) for form in forms for layouts in ("hhhh", "ntnn")]
    assert [operator_named(operator.name) for operator in operators] == operators
    assert len({operator.name for operator in operators}) == len(operators) > 2000


@pytest.mark.parametrize(
    "name",
    [
        "ScoreAttention",
        "ScoreAttention_softmax",
        "ScoreAttention_softmax2_hhhh",
        "ScoreAttention_softmax_hhht",
        "ScoreAttention_sigmoid_sink_hhhh",
        "ScoreAttention_softplus_reweighted_hhhh",
        "ScoreAttention_softmax_causal_additive_hhhh",
        "ScoreAttention_softmax_hhhh\n",
    ],
)
def test_other_names_are_none(name: str) -> None:
    assert operator_named(name) is None


def test_inputs_and_attributes_follow_from_the_form() -> None:
    form = AttentionForm(
        "softmax1", mask="boolean", window=True, lengths=True, alibi=True, softcap=True, sink=True
    )
    operator = AttentionOperator(form)
    assert operator.inputs == ("q", "k", "v", "mask", "lengths", "slopes", "sink")
    assert operator.attributes == {"scale": float, "bias": float, "softcap": float, "window": int}
    with pytest.raises(InputError):
        AttentionOperator(form, "hhh")
