"""Sparse linear maps: where they take the place of products, where not and why, and that nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import tautomer
from tautomer.patterns.exact_zeros import has_exact_zeros, without_gate
from tautomer.patterns.operation import definitions
from tautomer.target import KERNELS, Target

RANDOM = np.random.default_rng(0)
WIDTH, NEURONS = 6, 20
SMALL = replace(KERNELS, sparse_from=7)  # models of a few neurons are verified quickly
SIGNATURE = f"(float[batch, 1, {WIDTH}] x) => (float[batch, 1, {WIDTH}] y)"


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return (RANDOM.standard_normal(shape) * 0.1).astype(np.float32)


WEIGHTS = {
    "w1": numbers(WIDTH, NEURONS),
    "w3": numbers(WIDTH, NEURONS),
    "w2": numbers(NEURONS, WIDTH),
    "w2t": numbers(WIDTH, NEURONS),
    "b1": numbers(NEURONS),
    "b3": numbers(NEURONS),
    "b2": numbers(WIDTH),
    "t": np.float32(0.3),
    "zero": np.float32(0.0),
    "two": np.float32(2.0),
}


def model(
    body: str, signature: str = SIGNATURE, weights: Mapping[str, Any] | None = None, opset: int = 18
) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": {opset}]> m {signature} {{ {body} }}'
    )
    for name, value in {**WEIGHTS, **(weights or {})}.items():
        if name in body:
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return proto


def optimized(proto: onnx.ModelProto, target: str | Target = SMALL) -> tuple[list[str], list[Any], Any]:
    """The operators of the result, also in branches, what the pass said, and the result."""
    result = tautomer.optimize(proto, target=target)
    assert result.verification["verdict"] == "EQUAL"
    assert not [one for one in result.verification.get("assumptions", ()) if "was not run" in one]
    ops = [node.op_type for node in ir.traversal.RecursiveGraphIterator(result.model.graph)]
    return ops, [one for one in result.remarks if one.rule == "sparse linear"], result


FFN = "a = MatMul(x, w1) c = Add(a, b1) h = Relu(c) z = MatMul(h, w2) y = Add(z, b2)"
GLU = "g = MatMul(x, w1) u = MatMul(x, w3) r = Relu(g) h = Mul(r, u) y = MatMul(h, w2)"
FLAT = f"(float[1, {WIDTH}] x) => (float[1, {WIDTH}] y)"
FOUND = {
    "relu": (FFN, SIGNATURE, ["SparseLinear"]),
    "relu as a maximum": (FFN.replace("Relu(c)", "Max(c, zero)"), SIGNATURE, ["SparseLinear"]),
    "squared relu": (FFN.replace("h = Relu(c)", "r = Relu(c) h = Mul(r, r)"), SIGNATURE, ["SparseLinear"]),
    "a threshold": (
        FFN.replace("h = Relu(c)", "o = Greater(c, t) h = Where(o, c, zero)"),
        SIGNATURE,
        ["SparseLinear"],
    ),
    "gemm": (
        "a = Gemm<transB = 1>(x, w2, b1) h = Relu(a) y = Gemm<transB = 1>(h, w2t, b2)",
        FLAT,
        ["SparseLinear"],
    ),
    "no bias": ("a = MatMul(x, w1) h = Relu(a) y = MatMul(h, w2)", SIGNATURE, ["SparseLinear"]),
    "two readers": (
        "a = MatMul(x, w1) h = Relu(a) p = MatMul(h, w2) q = Gemm<transB = 1>(h, w2t) y = Add(p, q)",
        FLAT,
        ["SparseLinear", "SparseLinear"],
    ),
    "a gate": (GLU, SIGNATURE, ["SparseGatedLinear"]),
    "a gate the other way round": (GLU.replace("Mul(r, u)", "Mul(u, r)"), SIGNATURE, ["SparseGatedLinear"]),
    "a gate with biases": (
        GLU.replace("u = MatMul(x, w3)", "v = MatMul(x, w3) u = Add(b3, v)"),
        SIGNATURE,
        ["SparseGatedLinear"],
    ),
    "a squared gate": (
        GLU.replace("r = Relu(g)", "s = Relu(g) r = Mul(s, s)"),
        SIGNATURE,
        ["SparseGatedLinear"],
    ),
    "a gate by a threshold": (
        GLU.replace("r = Relu(g)", "o = Greater(g, t) r = Where(o, g, zero)"),
        SIGNATURE,
        ["SparseGatedLinear"],
    ),
    "an up projection that is read elsewhere": (
        GLU.replace("y = MatMul(h, w2)", "p = MatMul(h, w2) q = MatMul(u, w2) y = Add(p, q)"),
        SIGNATURE,
        ["SparseLinear"],
    ),
    "a gate times what is no product": (
        GLU.replace("u = MatMul(x, w3)", "v = MatMul(x, w3) u = Tanh(v)"),
        SIGNATURE,
        ["SparseLinear"],
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    body, signature, expected = FOUND[name]
    ops, remarks, result = optimized(model(body, signature))
    assert [op for op in ops if op.startswith("Sparse")] == expected
    assert [one.kind for one in remarks] == ["passed"] * len(expected)
    choices = [node for node in result.model.graph if node.op_type == "If"]
    assert len(choices) == (len(expected) if "batch" in signature else 0)
    if expected == ["SparseGatedLinear"]:
        assert ops.count("MatMul") == 3  # the gate's, and two of the dense form
    proto = ir.to_proto(result.model)
    onnx.checker.check_model(proto, full_check=True)
    again = tautomer.optimize(proto, target=SMALL, verify=False)
    assert ir.to_proto(again.model) == proto


def branches(result: Any) -> dict[str, list[str]]:
    """The operators of the branches of the only If."""
    (node,) = (node for node in result.model.graph if node.op_type == "If")
    return {name: [one.op_type for one in body.as_graph()] for name, body in node.attributes.items()}


def test_of_an_open_number_of_rows_many_take_the_products_as_they_were() -> None:
    assert branches(optimized(model(FFN))[2]) == {
        "then_branch": ["SparseLinear"],
        "else_branch": ["MatMul", "Add"],
    }
    assert branches(optimized(model(GLU))[2]) == {
        "then_branch": ["Relu", "SparseGatedLinear"],
        "else_branch": ["MatMul", "ReGLU", "MatMul"],
    }
    ops, remarks, _ = optimized(model(FFN, SIGNATURE.replace("batch", "2")))
    assert ops[-1] == "SparseLinear"
    assert not remarks[0].hint


def test_readers_of_one_value_share_the_condition() -> None:
    two = "a = MatMul(x, w1) h = Relu(a) p = MatMul(h, w2) q = MatMul(h, w2) y = Add(p, q)"
    ops, _, _ = optimized(model(two))
    assert (ops.count("If"), ops.count("Less"), ops.count("Size")) == (2, 1, 1)


@pytest.mark.parametrize("branch", ["then_branch", "else_branch"])
@pytest.mark.parametrize("body", [FFN, GLU], ids=["plain", "gated"])
def test_an_error_in_either_branch_is_found_out(branch: str, body: str) -> None:
    proto = model(body)
    wrong = ir.to_proto(optimized(proto)[2].model)
    (node,) = (node for node in wrong.graph.node if node.op_type == "If")
    graph = next(one.g for one in node.attribute if one.name == branch)
    made, graph.output[0].name = graph.output[0].name, "wrong"
    graph.node.append(onnx.helper.make_node("Neg", [made], ["wrong"]))
    assert tautomer.verify(proto, wrong).verdict == "DIFFERENT"


SPOILT = WEIGHTS["w2"].copy()
SPOILT[3, 5] = np.inf
UNKNOWN = WEIGHTS["w2"].copy()
UNKNOWN[-1, -1] = np.nan
DECLINED = {
    "infinity in the matrix": (FFN, SIGNATURE, {"w2": SPOILT}, "'w2' has NaN or infinite elements"),
    "NaN in the matrix": (FFN, SIGNATURE, {"w2": UNKNOWN}, "'w2' has NaN or infinite elements"),
    "many rows": (
        FFN,
        f"(float[5, 1, {WIDTH}] x) => (float[5, 1, {WIDTH}] y)",
        {},
        "its 5 rows meet nearly every neuron",
    ),
    "many rows whatever the batch": (
        FFN,
        f"(float[batch, 5, {WIDTH}] x) => (float[batch, 5, {WIDTH}] y)",
        {},
        "whatever its open sizes are, its rows meet nearly every neuron",
    ),
    "a small matrix": (
        FFN,
        SIGNATURE,
        {"w2": WEIGHTS["w2"][:16], "w1": WEIGHTS["w1"][:, :16], "b1": WEIGHTS["b1"][:16]},
        "elements: from",
    ),
    "no constant": (
        FFN,
        f"(float[batch, 1, {WIDTH}] x, float[{NEURONS}, {WIDTH}] w2) => (float[batch, 1, {WIDTH}] y)",
        {},
        "no constant matrix",
    ),
    "factors of a gemm": (
        "a = MatMul(x, w1) h = Relu(a) y = Gemm<alpha = 0.5>(h, w2, b2)",
        FLAT,
        {},
        "has factors of its own",
    ),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined_with_the_reason(name: str) -> None:
    body, signature, weights, said = DECLINED[name]
    proto = model(body, signature, weights)
    if name == "no constant":
        del proto.graph.initializer[[one.name for one in proto.graph.initializer].index("w2")]
    result = tautomer.optimize(proto, target=SMALL, verify="infinit" not in said)
    missed = [one.reason for one in result.remarks if one.rule == "sparse linear"]
    assert len(missed) == 1
    assert said in missed[0]
    assert not [node for node in result.model.graph if node.op_type.startswith("Sparse")]


@pytest.mark.parametrize("activation", ["Gelu", "Sigmoid", "LeakyRelu", "Elu", "Softplus", "HardSwish"])
def test_activations_without_exact_zeros_are_none_of_its_business(activation: str) -> None:
    ops, remarks, _ = optimized(model(FFN.replace("Relu", activation), opset=20))
    assert not remarks
    assert "SparseLinear" not in ops


def test_other_targets_have_no_kernel() -> None:
    for target in ("onnxruntime", "onnx"):
        ops, remarks, _ = optimized(model(FFN), target)
        assert not remarks
        assert "SparseLinear" not in ops


def test_what_has_exact_zeros_follows_from_the_definitions() -> None:
    found = {one.key: without_gate(one) for one in definitions() if has_exact_zeros(one)}
    assert {"Relu", "SquaredRelu", "ThresholdedRelu", "ReGLU"} <= set(found)
    assert not {"Gelu[approximate=none]", "Swish", "LeakyRelu", "Elu", "SwiGLU", "HardSwish"} & set(found)
    assert found["ReGLU"] is not None
    assert found["ReGLU"].op == "Relu"
    threshold = next(one for one in definitions() if one.op == "ThresholdedRelu")
    assert not has_exact_zeros(threshold, {"alpha": -9.0})


def test_attention_has_no_zeros_of_its_own() -> None:
    body = """
        k = Transpose<perm = [0, 2, 1]>(x) s = MatMul(x, k) p = Softmax<axis = -1>(s) a = MatMul(p, x)
        h = Relu(a) y = MatMul(h, w1)
    """
    signature = f"(float[1, 3, {WIDTH}] x) => (float[1, 3, {NEURONS}] y)"
    ops, remarks, _ = optimized(model(body, signature))
    assert "SparseLinear" in ops
    assert len(remarks) == 1


@pytest.mark.parametrize("large", [False, True])
def test_half_precision_is_skipped_only_where_nothing_overflows(large: bool) -> None:
    """0 * (x u) is NaN where x u overflows: in float16 that takes no large numbers."""
    halves = {name: value.astype(np.float16) for name, value in WEIGHTS.items() if name.startswith("w")}
    if large:
        halves["w3"][0, 0] = 5.0
    proto = model(GLU, SIGNATURE.replace("float", "float16").replace("batch", "2"), halves)
    ops, remarks, _ = optimized(proto)
    assert ("SparseLinear" if large else "SparseGatedLinear") in ops
    assert ("'w3' may hold 5" in remarks[0].reason) == large


@pytest.mark.parametrize(("element_type", "opset"), [("float16", 18), ("float", 8)])
def test_where_branches_are_not_as_good_an_open_number_of_rows_stays(element_type: str, opset: int) -> None:
    """onnxruntime rounds float16 where branches begin; Less took no integers before opset 9."""
    dtype = np.float16 if element_type == "float16" else np.float32
    weights = {name: value.astype(dtype) for name, value in WEIGHTS.items()}
    proto = model(GLU, SIGNATURE.replace("float", element_type), weights, opset)
    _, remarks, _ = optimized(proto)
    assert [one.kind for one in remarks] == ["missed"]
    assert "its number of rows is open" in remarks[0].reason
    assert remarks[0].hint == "fix the sizes of the inputs"
