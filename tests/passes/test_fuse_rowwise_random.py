"""Random graphs of pointwise operations and reductions give what they gave, fused or not, for every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.passes.pipeline import Choices, rewrite
from tautomer.patterns.recognition.recognise import recognise
from tautomer.runtime.evidence import Trust
from tautomer.target import target_of
from tautomer.verify.interpreter import run

UNARY = ("Neg", "Abs", "Exp", "Sigmoid", "Tanh", "Relu", "Erf", "Softplus", "Identity")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL1")
BATCH, CHANNELS, HEIGHT, WIDTH = "batch", 6, 2, "width"
SHAPE = (BATCH, CHANNELS, HEIGHT, WIDTH)
# beside the tensor itself: everything that broadcasts to it, also what no kernel reads
SIDES: dict[str, tuple[int | str, ...]] = {
    "full": SHAPE,
    "row": (HEIGHT, WIDTH),
    "last": (WIDTH,),
    "channel": (CHANNELS, 1, 1),
    "column": (BATCH, CHANNELS, HEIGHT, 1),
    "number": (1,),
    "example": (BATCH, 1, 1, 1),
    "odd": (BATCH, 1, HEIGHT, 1),
}


class Graph:
    """A graph that grows by random steps."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {"shape": np.array([0, 3, -1])}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n{name}", **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in {"x": SHAPE, **SIDES}.items()
        ]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(SHAPE)) for name in outputs]
        stored = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "random", inputs, results, stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A chain with branches: what was computed last is nearly always read next."""
    graph, values = Graph(), ["x"]
    for _ in range(draw(st.integers(2, 10))):
        last = values[-1]
        step = draw(st.sampled_from(["unary", "binary", "side", "reduce", "group", "number", "choice"]))
        if step == "unary":
            new = graph.op(draw(st.sampled_from(UNARY)), last)
        elif step == "binary":
            new = graph.op(draw(st.sampled_from(BINARY)), last, draw(st.sampled_from(values)))
        elif step == "side":
            pair = [last, draw(st.sampled_from([*SIDES]))]
            new = graph.op(draw(st.sampled_from(BINARY)), *draw(st.permutations(pair)))
        elif step == "number":
            new = graph.op(draw(st.sampled_from(BINARY)), last, graph.constant(np.float32(0.625)))
        elif step == "choice":
            new = graph.op("Where", graph.op("Less", last, graph.constant(np.float32(0.25))), last, values[0])
        elif step == "reduce":
            axes = graph.constant(draw(st.sampled_from([[3], [2, 3], [1, 2, 3], [1], [0, 1, 2, 3], [2]])))
            reduced = graph.op(draw(st.sampled_from(REDUCTIONS)), last, axes, keepdims=1)
            new = graph.op("Sub", last, graph.op("Tanh", reduced))
        else:
            view = graph.op("Reshape", last, "shape")
            mean = graph.op("ReduceMean", view, graph.constant([2]), keepdims=1)
            new = graph.op("Reshape", graph.op("Sub", view, mean), graph.op("Shape", "x"))
        values.append(new)
    extra = draw(st.sampled_from(values[1:]))
    return graph.model([values[-1], *([extra] if extra != values[-1] and draw(st.booleans()) else [])])


@settings(max_examples=60, deadline=None)
@given(proto=graphs(), batch=st.sampled_from([1, 2]), width=st.sampled_from([1, 5]), seed=st.integers(0, 99))
def test_a_random_graph_gives_the_same(proto: onnx.ModelProto, batch: int, width: int, seed: int) -> None:
    onnx.checker.check_model(proto)
    working = as_model(proto)
    rewrite(working, recognise(working), target_of("kernels"), Trust(), Choices())
    random = np.random.default_rng(seed)
    sizes = {BATCH: batch, "width": width}
    inputs = {
        name: random.standard_normal([size if isinstance(size, int) else sizes[size] for size in shape])
        for name, shape in {"x": SHAPE, **SIDES}.items()
    }
    before, after = (run(one, Float64(), inputs) for one in (as_model(proto), working))
    for name, exact in before.items():
        assert after[name].shape == exact.shape
        # sums of at most 60 numbers in another order, a variance once as a difference: a few thousand ulps
        np.testing.assert_allclose(after[name], exact, rtol=1e-9, atol=1e-12)
