"""Sparse linear maps that are wrong in one thing are told from right ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import tautomer
from tautomer.target import KERNELS

WIDTH, NEURONS = 6, 12
RANDOM = np.random.default_rng(0)
HEAD = f'<ir_version: 9, opset_import: ["": 18]> m (float[2, {WIDTH}] x) => (float[2, {WIDTH}] y)'
LAYERS = {
    "SparseLinear": "a = MatMul(x, w1) h = Relu(a) z = MatMul(h, w2) y = Add(z, b2)",
    "SparseGatedLinear": """
        g = MatMul(x, w1) v = MatMul(x, w3) u = Add(v, b3) r = Relu(g) h = Mul(r, u)
        z = MatMul(h, w2) y = Add(z, b2)
    """,
}
SHAPES = {
    "w1": (WIDTH, NEURONS),
    "w3": (WIDTH, NEURONS),
    "b3": (NEURONS,),
    "w2": (NEURONS, WIDTH),
    "b2": (WIDTH,),
}


@cache
def pair(op: str) -> tuple[onnx.ModelProto, bytes]:
    """A layer, and its sparse form."""
    proto = onnx.parser.parse_model(f"{HEAD} {{ {LAYERS[op]} }}")
    for name, shape in SHAPES.items():
        if name in LAYERS[op]:
            array = RANDOM.standard_normal(shape).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
    result = tautomer.optimize(proto, target=replace(KERNELS, sparse_from=1))
    assert any(node.op_type == op for node in result.model.graph)
    return proto, ir.to_proto(result.model).SerializeToString()


def changed(model: onnx.ModelProto, index: int, change: Callable[[Any], Any]) -> None:
    """Changes what the operator reads as input of that number."""
    node = next(one for one in model.graph.node if one.op_type in LAYERS)
    name = node.input[index]
    stored = next(one for one in model.graph.initializer if one.name == name)
    array = np.ascontiguousarray(change(numpy_helper.to_array(stored).copy()))
    model.graph.initializer.append(numpy_helper.from_array(array, "changed"))
    node.input[index] = "changed"


def without_last_row(weight: Any) -> Any:
    weight[-1] = 0.0
    return weight


def threshold(model: onnx.ModelProto) -> None:
    """x where x > 0.001 instead of max(x, 0)."""
    node = next(one for one in model.graph.node if one.op_type == "Relu")
    node.op_type = "ThresholdedRelu"
    node.attribute.append(onnx.helper.make_attribute("alpha", 1e-3))


def negated_gate(model: onnx.ModelProto) -> None:
    place, node = next((i, one) for i, one in enumerate(model.graph.node) if one.op_type in LAYERS)
    model.graph.node.insert(place, onnx.helper.make_node("Neg", [node.input[1]], ["negated"]))
    node.input[1] = "negated"


def exchanged(model: onnx.ModelProto) -> None:
    node = next(one for one in model.graph.node if one.op_type in LAYERS)
    node.input[2], node.input[4] = node.input[4], node.input[2]


MUTANTS: dict[str, tuple[str, Callable[[onnx.ModelProto], None]]] = {
    "the last row dropped": ("SparseLinear", lambda m: changed(m, 1, without_last_row)),
    "a threshold above zero": ("SparseLinear", threshold),
    "transposed twice": ("SparseLinear", lambda m: changed(m, 1, lambda w: w.T.reshape(w.shape))),
    "the bias forgotten": ("SparseLinear", lambda m: changed(m, 2, np.zeros_like)),
    "a gate of the other sign": ("SparseGatedLinear", negated_gate),
    "the last row of the up projection dropped": (
        "SparseGatedLinear",
        lambda m: changed(m, 2, without_last_row),
    ),
    "the bias of the up projection forgotten": ("SparseGatedLinear", lambda m: changed(m, 3, np.zeros_like)),
    "up and down exchanged": ("SparseGatedLinear", exchanged),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_form_is_found_out(name: str) -> None:
    op, plant = MUTANTS[name]
    source, right = pair(op)
    wrong = onnx.load_from_string(right)
    plant(wrong)
    onnx.checker.check_model(wrong)
    verdict = tautomer.verify(source, wrong)
    assert verdict.verdict == "DIFFERENT"
