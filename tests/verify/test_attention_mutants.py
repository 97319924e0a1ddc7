"""Fused attention in which one thing was made wrong is told from what it was made of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import tautomer
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS
from tautomer.target import KERNELS

sys.path.insert(0, str(Path(__file__).parents[1] / "passes"))
from attention_models import LENGTH, WRITTEN, attention

TARGET = replace(KERNELS, attention=dict.fromkeys(SCORE_FUNCTIONS, ((1, 2.0),)))


@cache
def pair(name: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A model, and what it became."""
    source = attention(WRITTEN[name][0])
    done = tautomer.optimize(source, target=TARGET, verify=False).model
    assert any(node.op_type.startswith("ScoreAttention_") for node in done.graph)
    return source, ir.to_proto(done)


def node_of(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.domain == "tautomer")


def inside(model: ir.Model, op: str, index: int = 0) -> ir.Node:
    """A node of the function."""
    (function,) = model.functions.values()
    return [node for node in function.graph if node.op_type == op][index]


def one_key_more(model: ir.Model) -> None:
    last = inside(model, "Greater")
    last.op_type = "GreaterOrEqual"


def the_future(model: ir.Model) -> None:
    inside(model, "Greater").op_type = "Less"


def times(name: str, factor: float) -> Callable[[ir.Model], None]:
    def plant(model: ir.Model) -> None:
        attributes = node_of(model).attributes
        attributes[name] = ir.AttrFloat32(name, attributes[name].as_float() * factor)

    return plant


def window_wider(model: ir.Model) -> None:
    attributes = node_of(model).attributes
    attributes["window"] = ir.AttrInt64("window", attributes["window"].as_int() + 1)


def before(model: ir.Model, slots: tuple[int, ...], op: str, *constants: list[int]) -> None:
    """Puts an operator between the node and some of its inputs."""
    node = node_of(model)
    for slot in slots:
        values = []
        for index, numbers in enumerate(constants):
            tensor = ir.tensor(np.array(numbers), name=f"wrong{slot}_{index}")
            values.append(ir.Value(name=tensor.name, const_value=tensor))
            model.graph.register_initializer(values[-1])
        made = ir.node(op, [node.inputs[slot], *values])
        model.graph.insert_before(node, made)
        node.replace_input_with(slot, made.outputs[0])


def swapped_heads(model: ir.Model) -> None:
    before(model, (1,), "Slice", [-1], [-10], [1], [-1])


def dropped_tail(model: ir.Model) -> None:
    before(model, (1, 2), "Slice", [0], [LENGTH - 1], [2])


def inverted_mask(model: ir.Model) -> None:
    before(model, (3,), "Not")


def bypass(op: str, index: int = 0) -> Callable[[ir.Model], None]:
    """Takes a node out of the function: its readers read its first input."""

    def plant(model: ir.Model) -> None:
        node = inside(model, op, index)
        node.outputs[0].replace_all_uses_with(node.inputs[0])

    return plant


def stale_maximum(model: ir.Model) -> None:
    """The shift of the sum is not that of the weights."""
    total = inside(model, "Add", -1)
    total.replace_input_with(0, inside(model, "Exp", -1).outputs[0])


MUTANTS: dict[str, tuple[str, Callable[[ir.Model], None]]] = {
    "mask off by one": ("causal by a choice", one_key_more),
    "mask turned around": ("causal by a choice", the_future),
    "window off by one": ("a window", window_wider),
    "mask inverted": ("a boolean", inverted_mask),
    "bias with the other sign": ("sigmoid less log n", times("bias", -1.0)),
    "bias forgotten": ("sigmoid less log n", times("bias", 0.0)),
    "scale twice": ("softmax", times("scale", 0.5)),
    "soft cap twice as high": ("capped", times("softcap", 2.0)),
    "heads of the keys exchanged": ("softmax", swapped_heads),
    "last key dropped": ("softmax", dropped_tail),
    "last key dropped, without a sum": ("sigmoid less log n", dropped_tail),
    "two sweeps merged into one": ("softplus reweighted", bypass("Div", -2)),
    "weights not divided by their sum": ("softplus of scaled scores", bypass("Div", -1)),
    "the key without a value forgotten": ("softmax plus one", stale_maximum),
    "not rescaled to the common maximum": ("softmax plus one", bypass("Sub", 0)),
}


def test_what_attention_became_is_equal() -> None:
    for name in sorted({name for name, _ in MUTANTS.values()}):
        assert tautomer.verify(*pair(name)).verdict == "EQUAL"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed(name: str) -> None:
    form, plant = MUTANTS[name]
    source, right = pair(form)
    wrong = ir.from_proto(right)
    plant(wrong)
    assert tautomer.verify(source, ir.to_proto(wrong)).verdict == "DIFFERENT"
