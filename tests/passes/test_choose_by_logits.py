"""Heads that choose: the softmax in front of an argmax is not computed, when that is asked for."""

from __future__ import annotations

from collections import Counter

import onnx
import onnx.parser
import pytest

import tautomer

HEADS = {
    "argmax of a softmax": ("p = Softmax (x) \n y = ArgMax <axis = -1> (p)", ["ArgMax"]),
    "of a log-softmax with a temperature": (
        "p = LogSoftmax (x) \n q = Div (p, t) \n y = ArgMax <axis = 2> (q)",
        ["ArgMax"],
    ),
    "a sample": (
        "p = LogSoftmax (x) \n q = Mul (t, p) \n n = Add (g, q) \n y = ArgMax <axis = -1> (n)",
        ["Mul", "Add", "ArgMax"],
    ),
    "top k without its values": ("p = Softmax (x) \n v, y = TopK (p, k)", ["TopK"]),
}
MISSES = {
    "probabilities are an output": (
        "p = Softmax (x) \n y = ArgMax <axis = -1> (p)",
        ", float[2, 3, 7] p",
        "is read elsewhere",
    ),
    "another axis": ("p = Softmax (x) \n y = ArgMax <axis = 1, keepdims = 1> (p)", "", "another axis"),
    "noise on probabilities": ("p = Softmax (x) \n n = Add (p, g) \n y = ArgMax <axis = -1> (n)", "", ""),
    "a negative temperature": ("p = Softmax (x) \n n = Div (p, minus) \n y = ArgMax <axis = -1> (n)", "", ""),
    "logits are chosen by anyway": ("y = ArgMax <axis = -1> (x)", "", ""),
}


def optimized(body: str, more: str = "", asked: bool = True) -> tuple[list[str], list[tautomer.Remark]]:
    """The operators behind logits that are looked up, so that they have no rounding of their own."""
    table = ", ".join(str(i * 5 % 11 - 4.5) for i in range(21))
    held = (
        f"float t = {{1.5}}, float minus = {{-1.5}}, int64[1] k = {{2}}, float[1, 3, 7] g = {{{table}}},"
        f" float[3, 7] w = {{{table}}}"
    )
    inputs, outputs = "int64[2, 3] ids", f"int64[2, 3, m] y{more}"
    graph = f"m ({inputs}) => ({outputs}) <{held}> {{ x = Gather (w, ids) \n {body} }}"
    text = f'<ir_version: 9, opset_import: ["": 18]> {graph}'
    result = tautomer.optimize(onnx.parser.parse_model(text), choose_by_logits=asked)
    assert result.verification is not None and result.verification["verdict"] == "EQUAL"
    said = [remark for remark in result.remarks if remark.rule == "choose by logits"]
    return [node.op_type for node in result.model.graph if node.op_type != "Gather"], said


@pytest.mark.parametrize("name", HEADS)
def test_a_head_chooses_by_logits(name: str) -> None:
    body, operators = HEADS[name]
    found, said = optimized(body)
    assert Counter(found) == Counter(operators) and [remark.kind for remark in said] == ["passed"]


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_keep_their_softmax(name: str) -> None:
    body, more, reason = MISSES[name]
    found, said = optimized(body, more)
    assert found.count("Softmax") == body.count("Softmax")
    assert all(remark.kind == "missed" for remark in said) and [
        reason in remark.reason for remark in said
    ] == [True] * bool(reason)


def test_it_is_done_when_asked_for_because_softmax_makes_ties() -> None:
    found, said = optimized(HEADS["argmax of a softmax"][0], asked=False)
    assert (
        "Softmax" in found and "one after rounding" in said[0].reason and "--choose-by-logits" in said[0].hint
    )
