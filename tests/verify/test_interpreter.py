"""The interpreter itself: control flow, functions, what it keeps, what may be replaced, what it refuses."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import onnx
import onnx.helper as oh
import onnx.parser
import pytest
from onnx import TensorProto as T

from tautomer.errors import InputError
from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.interpreter import Unsupported, run

M = Float64()


def parsed(body: str, head: str = '<ir_version: 10, opset_import: ["": 20]>'):
    return as_model(onnx.parser.parse_model(f"{head}\n{body}"))


def test_floats_are_values_and_integers_are_concrete():
    model = parsed("""g (float[2, 3] x) => (float[3] y, int64[2] n) {
        one = Constant <value_ints = [1]> ()
        n = Shape(x)
        y = ReduceSum <keepdims = 0> (x, zero)
        zero = Sub(one, one)
    }""")
    found = run(model, M, {"x": np.ones((2, 3), np.float32)})
    assert found["y"].dtype == np.float64 and found["y"].tolist() == [2.0, 2.0, 2.0]
    assert found["n"].dtype == np.int64 and found["n"].tolist() == [2, 3]


def test_a_condition_chooses_the_branch():
    model = parsed("""g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <
            then_branch = a () => (float[2] p) { p = Neg(x) },
            else_branch = b () => (float[2] q) { s = Exp(x)  q = Identity(s) }
        >
    }""")
    x = np.asarray([0.0, 1.0], np.float32)
    assert run(model, M, {"c": np.asarray(True), "x": x})["y"].tolist() == [0.0, -1.0]
    assert np.allclose(run(model, M, {"c": np.asarray(False), "x": x})["y"], np.exp(x.astype(float)))


LOOP = """g (int64 n, float[2] x) => (float[2] last, float[k, 2] steps) {
    last, steps = Loop (n, , x) <
        body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t, float[2] u) {
            d = Identity(c)
            t = Add(s, x)
            f = Cast <to = 1> (i)
            u = Mul(t, f)
        }
    >
}"""


def test_a_loop_carries_and_stacks():
    found = run(parsed(LOOP), M, {"n": np.asarray(3), "x": np.asarray([1.0, 2.0], np.float32)})
    assert found["last"].tolist() == [4.0, 8.0]
    assert found["steps"].tolist() == [[0.0, 0.0], [3.0, 6.0], [8.0, 16.0]]


@pytest.mark.parametrize(("count", "reason"), [(0, "no iteration"), (1 << 60, "more than")])
def test_a_loop_that_cannot_be_run(count, reason):
    with pytest.raises(Unsupported, match=reason):
        run(parsed(LOOP), M, {"n": np.asarray(count), "x": np.zeros(2, np.float32)})


def test_a_scan_runs_along_an_axis():
    body = oh.make_graph(
        [oh.make_node("Add", ["s", "r"], ["t"]), oh.make_node("Identity", ["t"], ["u"])],
        "b",
        [oh.make_tensor_value_info(n, T.FLOAT, [2]) for n in "sr"],
        [oh.make_tensor_value_info(n, T.FLOAT, [2]) for n in "tu"],
    )
    node = oh.make_node(
        "Scan",
        ["s0", "x"],
        ["end", "sums"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[1],
        scan_output_axes=[1],
    )
    graph = oh.make_graph(
        [node],
        "g",
        [oh.make_tensor_value_info("s0", T.FLOAT, [2]), oh.make_tensor_value_info("x", T.FLOAT, [2, 4])],
        [oh.make_tensor_value_info("end", T.FLOAT, [2]), oh.make_tensor_value_info("sums", T.FLOAT, [2, 4])],
    )
    model = as_model(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = run(model, M, {"s0": np.zeros(2, np.float32), "x": x})
    assert np.array_equal(found["sums"], np.cumsum(x[:, ::-1], 1))
    assert np.array_equal(found["end"], x.sum(1))


FUNCTIONS = """g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
    y = tautomer.Scaled <by = 3.0> (x)
    z = tautomer.Scaled (x)
}
<domain: "tautomer", opset_import: ["": 20]>
Scaled <by: float = 2.0> (a) => (b) {
    k = Constant <value_float: float = @by> ()
    c = Mul(a, k)
    b = Neg(c)
}"""


def test_functions_are_evaluated_by_their_bodies():
    head = '<ir_version: 10, opset_import: ["": 20, "tautomer": 1]>'
    found = run(parsed(FUNCTIONS, head), M, {"x": np.ones((2, 3), np.float32)})
    assert np.all(found["y"] == -3.0) and np.all(found["z"] == -2.0)


def chain(length: int):
    """y = (((x W0) W1) ...), with 64 KiB a weight."""
    weights = {f"w{i}": np.full((128, 128), 1.0 / 128, np.float32) for i in range(length)}
    nodes = [
        oh.make_node("MatMul", ["x" if i == 0 else f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(length)
    ]
    graph = oh.make_graph(
        nodes,
        "g",
        [oh.make_tensor_value_info("x", T.FLOAT, [1, 128])],
        [oh.make_tensor_value_info(f"v{length}", T.FLOAT, [1, 128])],
        [onnx.numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    return as_model(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10))


class Watched(Float64):
    """Keeps weak references to what it lifts."""

    def __init__(self) -> None:
        self.lifted: list[weakref.ref[np.ndarray]] = []
        self.most = 0

    def constant(self, x):
        array = super().constant(x)
        self.lifted.append(weakref.ref(array))
        self.most = max(self.most, sum(r() is not None for r in self.lifted))
        return array


def test_weights_are_not_kept():
    m = Watched()
    run(chain(12), m, {"x": np.ones((1, 128), np.float32)})
    gc.collect()
    assert len(m.lifted) == 13
    assert m.most <= 3  # the input, the weight in use, the next one


def test_values_are_dropped_after_their_last_reader():
    seen: list[weakref.ref[np.ndarray]] = []
    alive = []

    def observe(value, array):
        seen.append(weakref.ref(array))
        alive.append(sum(r() is not None for r in seen))

    run(chain(12), M, {"x": np.ones((1, 128), np.float32)}, observe=observe)
    assert len(alive) == 12 and max(alive) <= 2


def test_an_initializer_can_be_replaced_before_it_is_read():
    asked = []

    def constants(value):
        asked.append(value.name)
        return np.full((128, 128), 2.0 / 128) if value.name == "w0" else None

    found = run(chain(2), M, {"x": np.ones((1, 128), np.float32)}, constants=constants)
    assert asked == ["w0", "w1"] and np.allclose(found["v2"], 2.0)


def test_only_what_is_asked_for_is_run():
    ran = []
    found = run(
        chain(5),
        M,
        {"x": np.ones((1, 128), np.float32)},
        outputs=["v2"],
        observe=lambda v, _: ran.append(v.name),
    )
    assert list(found) == ["v2"] and ran == ["v1", "v2"]


def test_an_unknown_operator_is_named():
    model = parsed("g (float[2] x) => (float[2] y) { h = Relu(x)  y = Bernoulli(h) }")
    next(n for n in model.graph if n.op_type == "Bernoulli").name = "dice"
    with pytest.raises(Unsupported, match=r"Bernoulli: node 'dice'"):
        run(model, M, {"x": np.zeros(2, np.float32)})


def test_a_node_without_its_attributes():
    model = parsed(
        "g (float[2, 3, 8] x) => (float[2, 3, 8] y) { y = com.microsoft.MultiHeadAttention(x, x, x) }",
        '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>',
    )
    with pytest.raises(InputError, match="MultiHeadAttention"):
        run(model, M, {"x": np.zeros((2, 3, 8), np.float32)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x'"),
        ({"x": np.zeros(2, np.float32), "z": np.zeros(2)}, "no such input"),
        ({"x": np.zeros((2, 3), np.float32)}, "node"),
    ],
)
def test_inputs_that_do_not_fit(inputs, message):
    model = parsed(
        "g (float[2] x) => (float[2] y) { w = Constant <value_floats = [1.0, 2.0]> ()  y = Add(x, w) }"
    )
    with pytest.raises(InputError, match=message):
        run(model, M, inputs)
