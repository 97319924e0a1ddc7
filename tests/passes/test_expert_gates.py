"""Gates of mixtures of experts become one operator, which is the same function; what is none says why."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx.numpy_helper import from_array

import tautomer
from tautomer.patterns.expert_gate import FORMULAS, LOGITS, PROBABILITIES, SHARES, function_of_gate
from tautomer.target import KERNELS

TARGET = replace(KERNELS, gains={"ExpertGate": ()})
EXPERTS, K = 6, 2
ROWS = np.random.default_rng(0).standard_normal((7, EXPERTS)).astype(np.float32)
ROWS[1] = [200, -1, -2, 5, -300, 0]  # all probabilities but one are zero in float32
ROWS[2, 3] = -np.inf
ROWS[3] = 0.0
WEIGHTED = "rows = Gather <axis = 0> (table, i) each = Unsqueeze (w, last) y = Mul (each, rows)"
SOFTMAX = "p = Softmax <axis = -1> (x)"
TOP = "v, i = TopK <axis = -1> (p, k)"
SHARE = "n = ReduceSum (v, last) w = Div (v, n)"
MIXTRAL = f"{SOFTMAX} {TOP} {SHARE} {WEIGHTED}"
GATES = {
    "Mixtral": (MIXTRAL, SHARES),
    "not renormalised": (f"{SOFTMAX} w, i = TopK (p, k) {WEIGHTED}", PROBABILITIES),
    "gpt-oss": (f"v, i = TopK (x, k) w = Softmax (v) {WEIGHTED}", LOGITS),
    "a softmax that is written out": (
        "m = ReduceMax (x, last) d = Sub (x, m) e = Exp (d) s = ReduceSum (e, last) p = Div (e, s) "
        f"{TOP} {SHARE} {WEIGHTED}",
        SHARES,
    ),
    "an epsilon beside the sum": (
        f"{SOFTMAX} {TOP} n = ReduceSum (v, last) c = Add (n, tiny) w = Div (v, c) {WEIGHTED}",
        PROBABILITIES,
    ),
}


def model(body: str, outputs: str = "", logits: NDArray[np.float32] = ROWS) -> onnx.ModelProto:
    text = f"""
        <ir_version: 9, opset_import: ["": 18]>
        m (int64[tokens] ids) => (float[tokens, {K}, 3] y{outputs})
        <int64[1] k = {{{K}}}, int64[1] last = {{-1}}, float tiny = {{1e-20}}>
        {{ x = Gather <axis = 0> (logits, ids) {body} }}
    """
    proto = onnx.parser.parse_model(text)
    table = np.random.default_rng(1).standard_normal((EXPERTS, 3)).astype(np.float32)
    proto.graph.initializer.extend([from_array(logits, "logits"), from_array(table, "table")])
    return proto


def told(result: tautomer.Result, kind: str) -> list[str]:
    return [one.reason for one in result.remarks if (one.rule, one.kind) == ("expert gates", kind)]


@cache
def optimized(name: str) -> tautomer.Result:
    return tautomer.optimize(model(GATES[name][0]), target=TARGET)


@pytest.mark.parametrize("name", GATES)
def test_a_gate_becomes_one_operator(name: str) -> None:
    result = optimized(name)
    found = Counter(node.op_type for node in result.model.graph)
    assert (
        found[GATES[name][1]] == 1 and not found["TopK"] and not found["Softmax"] and told(result, "passed")
    )
    assert result.verification["verdict"] == "EQUAL"
    assert "select experts" not in {remark.rule for remark in result.remarks}


def test_a_gate_that_may_choose_by_logits_takes_k_exponentials() -> None:
    result = tautomer.optimize(model(MIXTRAL), target=TARGET, choose_by_logits=True)
    assert Counter(node.op_type for node in result.model.graph)[LOGITS] == 1
    assert result.verification["verdict"] == "EQUAL"


def test_other_targets_keep_the_operators() -> None:
    assert not tautomer.optimize(model(MIXTRAL)).changed


MISSES: dict[str, tuple[str, str, str, str]] = {
    "another axis": (SOFTMAX, "q = Softmax <axis = 0> (x) p = Identity (q)", "", ""),
    "the smallest": ("<axis = -1> (p, k)", "<axis = -1, largest = 0> (p, k)", "", "smallest"),
    "in any order": ("<axis = -1> (p, k)", "<axis = -1, sorted = 0> (p, k)", "", "left open"),
    "all probabilities are read": (
        SHARE,
        f"{SHARE} o = Tanh (p)",
        f", float[tokens, {EXPERTS}] o",
        "of all experts",
    ),
    "a k that is computed": ("(p, k)", "(p, j)", "", "not known"),
    "a softmax of something else": (TOP, "q = Neg (p) v, i = TopK (q, k)", "", ""),
}


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_stay_and_say_why(name: str) -> None:
    old, new, outputs, said = MISSES[name]
    assert old in MIXTRAL
    computed = "j = ReduceMin <keepdims = 1> (ids)"
    result = tautomer.explain(model(f"{computed} {MIXTRAL.replace(old, new)}", outputs), target=TARGET)
    found = [one for one in result if one.rule == "expert gates"]
    assert all(one.kind == "missed" for one in found)
    assert [said in one.reason for one in found] == [True] * bool(said)


def test_many_experts_and_large_choices_stay() -> None:
    for experts, k, said in ((5000, 8, "5000"), (100, 40, "chooses 40 of 100")):
        text = f"""
            <ir_version: 9, opset_import: ["": 18]>
            m (float[3, {experts}] x) => (float[3, {k}] w, int64[3, {k}] i) <int64[1] k = {{{k}}}>
            {{ p = Softmax (x) w, i = TopK (p, k) }}
        """
        remarks = tautomer.explain(onnx.parser.parse_model(text), target=TARGET)
        assert any(said in one.reason for one in remarks if one.rule == "expert gates")


def test_where_it_does_not_gain_the_figure_is_named() -> None:
    slow = replace(KERNELS, gains={"ExpertGate": ((EXPERTS, 0.5),)})
    remarks = tautomer.explain(model(MIXTRAL), target=slow)
    assert any("take 0.5 of the time of ours at 6 elements" in one.reason for one in remarks)


def wrong_number(node: onnx.NodeProto, proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(from_array(np.array([K + 1]), "wrong"))
    node.input[1] = "wrong"


def other_scores(node: onnx.NodeProto, proto: onnx.ModelProto) -> None:
    proto.graph.node.insert(1, onnx.helper.make_node("Neg", [node.input[0]], ["turned"]))
    node.input[0] = "turned"


def renamed(op: str) -> Any:
    def change(node: onnx.NodeProto, proto: onnx.ModelProto) -> None:
        node.op_type = op
        proto.functions.append(ir.to_proto(function_of_gate(op, 18)))

    return change


def in_another_order(node: onnx.NodeProto, proto: onnx.ModelProto) -> None:
    gather = next(one for one in proto.graph.node if node.output[1] in one.input)
    proto.graph.node.insert(2, onnx.helper.make_node("Sub", ["one", node.output[1]], ["exchanged"]))
    proto.graph.initializer.append(from_array(np.array(EXPERTS - 1), "one"))
    gather.input[1] = "exchanged"


MUTANTS = {
    **{op: renamed(op) for op in FORMULAS if op != SHARES},
    "one more": wrong_number,
    "the smallest": other_scores,
    "experts from the other end": in_another_order,
}


@cache
def right() -> onnx.ModelProto:
    """A gate on logits whose probabilities are told apart."""
    return ir.to_proto(tautomer.optimize(model(MIXTRAL, logits=ROWS[4:]), target=TARGET).model)


def test_a_gate_is_equal_to_itself() -> None:
    assert tautomer.verify(right(), right()).verdict == "EQUAL"


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_gates_are_told_from_right_ones(name: str) -> None:
    """By logits it is the same function of real numbers."""
    proto = right()
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    node = next(one for one in changed.graph.node if one.domain == "tautomer")
    MUTANTS[name](node, changed)
    try:
        verdict = tautomer.verify(proto, changed).verdict
    except tautomer.TautomerError:
        verdict = "DIFFERENT"  # its outputs have another shape
    assert (verdict == "EQUAL") == (name == LOGITS)
