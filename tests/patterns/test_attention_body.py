"""The function of an attention operator computes what its form says, and is taken for no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tautomer.graph.call import Call
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.attention.body import function_of_attention, is_written_by_us
from tautomer.patterns.attention.form import AttentionForm, attend
from tautomer.patterns.attention.operators import LAYOUTS, AttentionOperator
from tautomer.verify.interpreter import run_function

RANDOM = np.random.default_rng(0)
M = Float64()
FORMS = (
    AttentionForm("softmax", causal="end"),
    AttentionForm("softmax", mask="boolean", empty="mean", softcap=True),
    AttentionForm("softmax", mask="boolean", causal="end", empty="zero", window=True, lengths=True),
    AttentionForm("softmax", mask="additive", causal="start", lengths=True, alibi=True),
    AttentionForm("softmax1", mask="additive", causal="end", sink=True, window=True),
    AttentionForm("sigmoid", mask="boolean", causal="end", alibi=True),
    AttentionForm("relu2", window=True, softcap=True),
    AttentionForm("softplus", mask="boolean", causal="end", empty="zero"),
    AttentionForm("softplus_reweighted", causal="end", power=3),
)
NUMBERS = {"scale": 0.5, "bias": 0.25, "softcap": 2.0, "window": 2, "free": 1}
EMPTY = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 18}), ir_version=9)


def operands(form: AttentionForm) -> dict[str, Any]:
    """Every tensor that a form may have; 4 heads over 2, 5 queries, 6 keys."""
    allowed = RANDOM.random((2, 1, 5, 6)) < 0.7
    allowed[0, 0, 2] = False
    return {
        "q": RANDOM.standard_normal((2, 4, 5, 3)),
        "k": RANDOM.standard_normal((2, 2, 6, 3)),
        "v": RANDOM.standard_normal((2, 2, 6, 7)),
        "mask": allowed if form.mask == "boolean" else RANDOM.standard_normal((2, 1, 5, 6)),
        "lengths": np.array([6, 4]),
        "slopes": RANDOM.standard_normal(4),
        "sink": RANDOM.standard_normal(4),
    }


@pytest.mark.parametrize("version", [12, 18])
@pytest.mark.parametrize("layouts", ["hhhh", "nthn"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: AttentionOperator(form).name)
def test_the_function_computes_the_formula(form: AttentionForm, layouts: str, version: int) -> None:
    operator = AttentionOperator(form, layouts)
    function = function_of_attention(operator, version)
    assert is_written_by_us(function)
    given = operands(form)
    numbers = {name: NUMBERS[name] for name in operator.attributes}
    extra = {name: given[name] for name in operator.inputs[3:]}
    inputs = [given[x].transpose(LAYOUTS[letter]) for x, letter in zip("qkv", layouts, strict=False)]
    call = Call(operator.name, "tautomer", 1, numbers)
    (found,) = run_function(EMPTY, M, function, call, [*inputs, *extra.values()])
    wanted = attend(M, form, given["q"], given["k"], given["v"], **extra, **numbers)
    # both in float64; sums in another order
    np.testing.assert_allclose(found, wanted.transpose(LAYOUTS[layouts[3]]), rtol=1e-9, atol=1e-12)


def test_another_function_of_that_name_is_not_taken() -> None:
    operator = AttentionOperator(AttentionForm("sigmoid", causal="end"))
    for wrong in ("sign", "node", "name"):
        function = function_of_attention(operator, 18)
        if wrong == "sign":
            next(node for node in function.graph if node.op_type == "Greater").op_type = "Less"
        elif wrong == "node":
            node = function.graph[-1]
            function.graph.append(ir.node("Neg", [node.outputs[0]]))
        else:
            function = ir.Function(
                "tautomer",
                AttentionOperator(AttentionForm("sigmoid")).name,
                graph=function.graph.clone(),
                attributes=list(function.attributes.values()),
            )
        assert not is_written_by_us(function)
