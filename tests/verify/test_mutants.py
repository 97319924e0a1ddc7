"""Wrong rewrites are told from right ones: in the whole model, and at the site where a pass makes them."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx_ir as ir
import pytest
from mutants import FORMS, MUTANTS, ORIGINAL, REGIMES, build, inputs, load
from onnx import TensorProto, helper, numpy_helper

import tautomer
from tautomer.passes import raise_operations
from tautomer.verify.algebra import check
from tautomer.verify.exact import BallArithmetic


@cache
def original(regime):
    return load(build(ORIGINAL, regime))


def compared(model, regime, seed=1):
    return check(original(regime), load(model), inputs(), BallArithmetic, random_weights=seed)


def test_there_are_many_and_each_has_a_name():
    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS}) >= 100


@pytest.mark.parametrize("weights", ["stored", "random"])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("form", FORMS)
def test_a_correct_rewrite_is_equal(form, regime, weights):
    done = compared(build(FORMS[form], regime), regime, 1 if weights == "random" else None)
    assert done.equal is True and done.divergence is None


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_killed(mutant, regime):
    done = compared(mutant.model(regime), regime)
    assert done.equal is (regime in mutant.hidden)
    if regime == "random" and mutant.shows:
        assert done.divergence is not None and done.divergence.as_json()["node"] in mutant.shows


def test_few_mutants_are_hidden_and_only_where_bias_or_gain_are_constant():
    hidden = [mutant for mutant in MUTANTS if mutant.hidden]
    assert len(hidden) <= 4 and {regime for mutant in hidden for regime in mutant.hidden} == {"plain"}


def test_both_kinds_of_weights_are_needed():
    # a dropped bias computes the same numbers while it is 0
    dropped = next(mutant for mutant in MUTANTS if mutant.name == "qkv bias dropped").model("plain")
    assert compared(dropped, "plain", seed=None).equal is True
    assert compared(dropped, "plain").equal is False


def attribute(name, value):
    def wrong(node):
        node.attributes[name] = ir.Attr(
            name,
            {float: ir.AttributeType.FLOAT, int: ir.AttributeType.INT, str: ir.AttributeType.STRING}[
                type(value)
            ],
            value,
        )

    return wrong


def without_bias(node):
    node.resize_inputs(2)


def gain_for_bias(node):
    node.replace_input_with(2, node.inputs[1])


def swish():
    nodes = [
        helper.make_node("Mul", ["x", "alpha"], ["scaled"], name="scaled"),
        helper.make_node("Sigmoid", ["scaled"], ["gate"], name="gate"),
        helper.make_node("Mul", ["x", "gate"], ["y"], name="y"),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4])] for name in "xy"]
    held = [numpy_helper.from_array(np.float32(1.75), "alpha")]
    graph = helper.make_graph(nodes, "swish", *ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


@cache
def written_right(form):
    source = swish() if form == "swish" else build(FORMS[form], "random")
    return source, tautomer.optimize(source, target="onnx").remarks


SITES = {
    "LayerNormalization with another epsilon": (
        "decomposed",
        "LayerNormalization",
        attribute("epsilon", 1e-6),
    ),
    "LayerNormalization along another axis": ("decomposed", "LayerNormalization", attribute("axis", 1)),
    "LayerNormalization without its bias": ("decomposed", "LayerNormalization", without_bias),
    "LayerNormalization with the gain as bias": ("moments", "LayerNormalization", gain_for_bias),
    "RMSNormalization with another epsilon": ("recentred", "RMSNormalization", attribute("epsilon", 1.1e-5)),
    "RMSNormalization without epsilon": ("folded", "RMSNormalization", attribute("epsilon", 0.0)),
    "Gelu with erf": ("decomposed", "Gelu", attribute("approximate", "none")),
    "Softmax along another axis": ("decomposed", "Softmax", attribute("axis", -2)),
    "Swish with another alpha": ("swish", "Swish", attribute("alpha", 1.7501)),
    "Swish with the alpha that it has by default": ("swish", "Swish", attribute("alpha", 1.0)),
}


@pytest.mark.parametrize(("form", "op", "wrong"), SITES.values(), ids=SITES)
def test_a_pass_that_writes_it_wrong_is_refused_at_the_site(form, op, wrong, monkeypatch):
    source, remarks = written_right(form)
    right = [one for one in remarks if one.op == op and one.rule == "raise"]
    assert {one.kind for one in right} == {"passed"}
    write = raise_operations.write

    def miswrite(*arguments):
        result = write(*arguments)
        if result.producer().op_type == op:
            wrong(result.producer())
        return result

    monkeypatch.setattr(raise_operations, "write", miswrite)
    done = tautomer.optimize(source, target="onnx")
    refused = [one for one in done.remarks if one.op == op and one.rule == "raise"]
    assert len(refused) == len(right) and {one.kind for one in refused} == {"missed"}
    assert all("elements differ in exact arithmetic" in one.reason for one in refused)
    assert done.verification["verdict"] == "EQUAL"
