"""What may be shifted, on small graphs; and that shifting all of it at once moves no output."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from tautomer.graph.digits import Digits
from tautomer.passes.streams.mean_liveness import Live, Liveness, mean_liveness
from tautomer.patterns.recognition.recognise import Recognition, recognise

HEADER = '<ir_version: 9, opset_import: ["" : {opset}]>\n'

# x is a stream of 8 channels; g, c are a gain and a bias, W and V weights
NORM = "LayerNormalization <axis = -1> ({}, g, c)"
STREAM = "float[b, t, 8] x, float[8] g, float[8] c, float[8, 8] W, float[8, 8] V"


def looked_at(text: str, opset: int = 18) -> tuple[Recognition, Liveness]:
    model = ir.from_proto(onnx.parser.parse_model(HEADER.format(opset=opset) + text))
    found = recognise(model)
    return found, mean_liveness(model, found.facts, found.operations)


def value(found: Recognition, name: str) -> ir.Value:
    graph = found.model.graph
    named = {v.name: v for v in [*graph.inputs, *graph.initializers.values()]}
    named.update((v.name, v) for node in graph for v in node.outputs)
    return named[name]


def along(found: Recognition, name: str, *axes: int) -> Digits:
    shape = found.facts[value(found, name)].shape
    assert shape is not None
    digits = Digits.along(shape, axes)
    assert digits is not None
    return digits


def live(found: Recognition, liveness: Liveness, name: str) -> Live:
    demand = liveness.of(value(found, name))
    assert isinstance(demand, Live), demand
    return demand


def graph(body: str, outputs: str = "float[b, t, 8] y", inputs: str = STREAM) -> str:
    return f"m ({inputs}) => ({outputs}) {{ {body} }}"


BLOCK = f"""
    h0 = MatMul (x, W)
    n0 = {NORM.format("h0")}
    a0 = MatMul (n0, V)
    h1 = Add (h0, a0)
    n1 = {NORM.format("h1")}
    r1 = Relu (n1)
    a1 = MatMul (r1, V)
    h2 = Add (h1, a1)
    y = {NORM.format("h2")}
"""


def test_the_stream_of_a_pre_norm_network() -> None:
    found, liveness = looked_at(graph(BLOCK))
    for name in ("h0", "a0", "h1", "a1", "h2"):
        assert liveness.of(value(found, name)) == along(found, name, 2), name
    for name in ("n0", "n1", "r1", "y", "x"):
        live(found, liveness, name)
    # the weights that write to the stream, one node at a time: W is read once, V twice
    assert liveness.of(value(found, "W")) == along(found, "W", 1)
    assert liveness.of(value(found, "V")) == along(found, "V", 1)
    node = value(found, "a0").producer()
    assert node is not None
    assert liveness.at(node, 1) == along(found, "V", 1)
    assert isinstance(liveness.at(node, 0), Live)


def test_what_the_norm_itself_reads_stays() -> None:
    found, liveness = looked_at(graph(BLOCK))
    assert live(found, liveness, "g").reason.endswith("sees it: it is an operand of LayerNormalization")
    assert live(found, liveness, "n0").reason == (
        "node 'MatMul#a0' (MatMul) sees it: it gives every channel weights of its own"
    )
    assert live(found, liveness, "n1").reason == "node 'Relu#r1' (Relu) sees it: Relu is not linear"


def test_an_output_of_a_hidden_state_keeps_all_that_comes_before_it() -> None:
    found, liveness = looked_at(graph(BLOCK, "float[b, t, 8] y, float[b, t, 8] h1"))
    fault = live(found, liveness, "h0")
    assert fault.node is None and fault.far == 1
    assert fault.reason == "'h1' is an output of the model and shows the mean of the stream"
    assert fault.hint == "export the model without hidden states"
    live(found, liveness, "h1")
    assert liveness.of(value(found, "h2")) == along(found, "h2", 2)
    assert live(found, liveness, "y").hint == ""


def test_after_a_tap_the_writers_may_be_shifted_and_the_tapped_value_may_not() -> None:
    found, liveness = looked_at(graph(BLOCK + "z = Sigmoid (h1)", "float[b, t, 8] y, float[b, t, 8] z"))
    assert live(found, liveness, "h1").reason == "node 'Sigmoid#z' (Sigmoid) sees it: Sigmoid is not linear"
    assert liveness.of(value(found, "a1")) == along(found, "a1", 2)
    add = value(found, "h2").producer()
    assert add is not None
    assert liveness.at(add, 0) == along(found, "h1", 2)


def test_parallel_blocks_read_one_stream() -> None:
    body = f"""
        h = MatMul (x, W)
        n = {NORM.format("h")}
        o = {NORM.format("h")}
        a = MatMul (n, V)
        e = Gelu (o)
        f = MatMul (e, W)
        k = Sum (h, a, f)
        y = {NORM.format("k")}
    """
    found, liveness = looked_at(graph(body), opset=20)
    assert liveness.of(value(found, "h")) == along(found, "h", 2)
    assert liveness.of(value(found, "f")) == along(found, "f", 2)


SPELLED = """
    h = MatMul (x, W)
    m = ReduceMean <axes = [-1]> (h)
    s = Sub (h, m)
    q = Mul (s, s)
    v = ReduceMean <axes = [-1]> (q)
    e = Add (v, eps)
    r = Sqrt (e)
    n = Div (s, r)
    u = Mul (n, g)
    y = Add (u, c)
"""


def spelled(extra: str = "", outputs: str = "float[b, t, 8] y") -> str:
    return f"m ({STREAM}) => ({outputs}) <float eps = {{1e-5}}> {{ {SPELLED} {extra} }}"


def test_a_norm_in_many_nodes_is_one_reader() -> None:
    found, liveness = looked_at(spelled(), opset=17)
    assert liveness.of(value(found, "h")) == along(found, "h", 2)
    for name in ("m", "s", "q", "v", "e", "r", "n", "u", "eps", "g", "c"):
        live(found, liveness, name)
    assert "inside of LayerNormalization" in live(found, liveness, "n").reason
    for name, index in (("m", 0), ("s", 0)):
        node = value(found, name).producer()
        assert node is not None
        assert liveness.at(node, index) == along(found, "h", 2)


def test_when_something_else_reads_the_mean_inside_the_norm_the_stream_is_live() -> None:
    found, liveness = looked_at(spelled(outputs="float[b, t, 8] y, float[b, t, 1] m"), opset=17)
    assert live(found, liveness, "h").reason.startswith("'m' is an output of the model")
    found, liveness = looked_at(spelled("z = Exp (s)", "float[b, t, 8] y, float[b, t, 8] z"), opset=17)
    assert "Exp" in live(found, liveness, "h").reason


def test_a_norm_nobody_reads_demands_nothing() -> None:
    found, liveness = looked_at(spelled("w = Identity (x)", "float[b, t, 8] w"), opset=17)
    assert liveness.of(value(found, "h")) == Digits.EMPTY
    assert liveness.of(value(found, "W")) == Digits.EMPTY


@pytest.mark.parametrize(("outputs", "free"), [("y, mean", False), ("y, unused, deviation", True)])
def test_the_mean_that_a_norm_gives_shows_it_and_the_deviation_does_not(outputs: str, free: bool) -> None:
    other = outputs.rsplit(" ", 1)[1]
    body = f"h = MatMul (x, W)  {outputs} = {NORM.format('h')}"
    found, liveness = looked_at(graph(body, f"float[b, t, 8] y, float[b, t, 1] {other}"))
    demand = liveness.of(value(found, "h"))
    assert (demand == along(found, "h", 2)) == free
    assert free or "another output of it shows the mean" in live(found, liveness, "h").reason


def test_two_norms_over_different_axes_allow_what_both_do() -> None:
    body = """
        h = MatMul (x, W)
        n = LayerNormalization <axis = -1> (h, g, c)
        s = Softmax <axis = 1> (h)
        y = Add (n, s)
    """
    found, liveness = looked_at(graph(body))
    assert liveness.of(value(found, "h")) == along(found, "h", 1, 2)


def test_norms_of_heads_and_of_whole_rows_meet() -> None:
    body = """
        h = MatMul (x, W)
        k = Reshape (h, heads)
        s = Softmax (k)
        l = Reshape (s, rows)
        n = LayerNormalization <axis = -1> (h, g, c)
        y = Add (n, l)
    """
    text = (
        f"m ({STREAM}) => (float[b, t, 8] y) <int64[4] heads = {{0, 0, 2, 4}}, int64[3] rows = {{0, 0, 8}}> "
    )
    found, liveness = looked_at(text + f"{{ {body} }}")
    assert liveness.of(value(found, "k")) == along(found, "k", 3)
    assert liveness.of(value(found, "h")) == along(found, "h", 2)


def test_groups_of_channels_that_do_not_nest_are_live() -> None:
    body = """
        p = Reshape (x, threes)
        s = Softmax (p)
        q = Reshape (x, fours)
        t = Softmax (q)
        u = Reshape (t, threes)
        y = Add (s, u)
    """
    text = f"m (float[b, 12] x) => (y) <int64[2] threes = {{-1, 3}}, int64[2] fours = {{-1, 4}}> {{ {body} }}"
    found, liveness = looked_at(text)
    assert "groups the channels of 'x' in another way" in live(found, liveness, "x").reason


def test_through_reshape_transpose_roll_and_windows() -> None:
    body = f"""
        h = MatMul (x, W)
        front = Slice (h, zero, two, one)
        back = Slice (h, two, many, one)
        rolled = Concat <axis = 1> (back, front)
        grid = Reshape (rolled, split)
        windows = Transpose <perm = [0, 2, 1, 3]> (grid)
        flat = Reshape (windows, joined)
        y = {NORM.format("flat")}
    """
    text = f"""m ({STREAM.replace("t, 8", "12, 8")}) => (float[b2, 4, 8] y)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] many = {{999}},
         int64[4] split = {{0, 3, 4, 8}}, int64[3] joined = {{-1, 3, 8}}> {{ {body} }}"""
    found, liveness = looked_at(text)
    for name in ("h", "front", "back", "rolled", "flat"):
        assert liveness.of(value(found, name)) == along(found, name, 2), name
    assert liveness.of(value(found, "windows")) == along(found, "windows", 3)


def test_zero_padding_of_positions_and_a_token_in_front() -> None:
    body = f"""
        h = MatMul (x, W)
        p = Pad (h, pads, fill)
        y0 = Add (p, pos)
        shape = Shape (x)
        batch = Gather (shape, zero)
        size = Concat <axis = 0> (batch, rest)
        cls = Expand (token, size)
        k = Concat <axis = 1> (cls, y0)
        y = {NORM.format("k")}
    """
    text = f"""m ({STREAM}, float[1, 1, 8] token, float[8] pos) => (y)
        <int64[6] pads = {{0, 0, 0, 0, 2, 0}}, float fill = {{0}}, int64[1] zero = {{0}},
         int64[2] rest = {{1, 8}}> {{ {body} }}"""
    found, liveness = looked_at(text)
    for name in ("h", "p", "cls", "token"):
        assert liveness.of(value(found, name)) == along(found, name, 2), name
    assert liveness.of(value(found, "pos")) == along(found, "pos", 0)
    assert liveness.of(value(found, "fill")) == Digits.EMPTY
    assert isinstance(liveness.of(value(found, "batch")), Live)


def test_pooling_over_positions_passes_an_average_and_stops_at_a_maximum() -> None:
    body = f"h = MatMul (x, W)  p = OP (h, one)  y = {NORM.format('p')}"
    text = f"m ({STREAM}) => (float[b, 1, 8] y) <int64[1] one = {{1}}> {{ {body} }}"
    found, liveness = looked_at(text.replace("OP", "ReduceMean"))
    assert liveness.of(value(found, "h")) == along(found, "h", 2)
    found, liveness = looked_at(text.replace("OP", "ReduceMax"))
    fault = live(found, liveness, "h")
    assert fault.reason == "node 'ReduceMax#p' (ReduceMax) sees it: ReduceMax picks elements"
    assert fault.node is not None and fault.node.op_type == "ReduceMax"


def test_a_stem_of_pixels_and_a_depthwise_convolution() -> None:
    body = """
        h = Conv <strides = [2, 2]> (x, K, k)
        l = Transpose <perm = [0, 2, 3, 1]> (h)
        n = LayerNormalization <axis = -1> (l, g, c)
        b = Transpose <perm = [0, 3, 1, 2]> (n)
        d = Conv <group = 8, pads = [1, 1, 1, 1]> (b, D)
        o = Transpose <perm = [0, 2, 3, 1]> (d)
        y = LayerNormalization <axis = -1> (o, g, c)
    """
    inputs = (
        "float[n, 3, 8, 8] x, float[8, 3, 2, 2] K, float[8] k, float[8, 1, 3, 3] D, float[8] g, float[8] c"
    )
    found, liveness = looked_at(graph(body, "float[n, 4, 4, 8] y", inputs))
    assert liveness.of(value(found, "h")) == along(found, "h", 1)
    assert liveness.of(value(found, "K")) == along(found, "K", 0)
    assert liveness.of(value(found, "k")) == along(found, "k", 0)
    assert liveness.of(value(found, "d")) == along(found, "d", 1)
    assert "depthwise" in live(found, liveness, "D").reason


def test_readers_of_the_shape_see_no_values() -> None:
    body = f"""
        h = MatMul (x, W)
        s = Shape (h)
        k = Reshape (h, s)
        y = {NORM.format("k")}
    """
    found, liveness = looked_at(graph(body, "float[b, t, 8] y, int64[3] s"))
    assert liveness.of(value(found, "h")) == along(found, "h", 2)


def test_a_factor_per_channel_stops_it_and_a_factor_per_position_does_not() -> None:
    body = f"h = MatMul (x, W)  p = Mul (h, f)  y = {NORM.format('p')}"
    found, liveness = looked_at(graph(body, inputs=STREAM + ", float[b, t, 1] f"))
    assert liveness.of(value(found, "h")) == along(found, "h", 2)
    assert live(found, liveness, "f").reason == "node 'Mul#p' (Mul) sees it: it is a factor of a product"
    found, liveness = looked_at(graph(body, inputs=STREAM + ", float[8] f"))
    assert "it gives every channel a factor of its own" in live(found, liveness, "h").reason


def test_what_is_added_once_per_position_does_not_matter_at_all() -> None:
    body = f"h = MatMul (x, W)  k = Add (h, f)  y = {NORM.format('k')}"
    found, liveness = looked_at(graph(body, inputs=STREAM + ", float[b, t, 1] f"))
    assert liveness.of(value(found, "f")) == Digits.EMPTY


def test_channels_that_are_joined_are_live() -> None:
    body = "h = MatMul (x, W)  k = Concat <axis = -1> (h, h)  y = LayerNormalization <axis = -1> (k, gg)"
    found, liveness = looked_at(graph(body, "float[b, t, 16] y", STREAM + ", float[16] gg"))
    assert "it joins channels" in live(found, liveness, "h").reason


def test_scores_may_be_shifted_along_the_keys_and_the_choice_of_a_class_ignores_a_shift() -> None:
    body = "s = MatMul (x, W)  p = Softmax (s)  a = ArgMax <axis = -1> (s)"
    found, liveness = looked_at(graph(body, "float[b, t, 8] p, int64[b, t, 1] a"))
    assert liveness.of(value(found, "s")) == along(found, "s", 2)
    assert liveness.of(value(found, "W")) == along(found, "W", 1)


def test_softmax_of_old_opsets_takes_all_axes_from_one_on() -> None:
    found, liveness = looked_at("m (float[b, 3, 4] x) => (y) { y = Softmax <axis = 1> (x) }", opset=11)
    assert liveness.of(value(found, "x")) == along(found, "x", 1, 2)


def test_a_value_read_inside_an_if_is_live() -> None:
    body = f"""
        h = MatMul (x, W)
        y = {NORM.format("h")}
        z = If (cond) <
            then_branch = inner_then () => (float[b, t, 8] u) {{ u = Exp (h) }},
            else_branch = inner_else () => (float[b, t, 8] w) {{ w = Identity (x) }}
        >
    """
    text = graph(body, "float[b, t, 8] y, float[b, t, 8] z", STREAM + ", bool cond")
    found, liveness = looked_at(text)
    fault = live(found, liveness, "h")
    assert fault.reason == "'h' is read inside 'If#z' (If)"
    assert fault.node is not None and fault.node.op_type == "If"
    inner = fault.node.attributes["then_branch"].as_graph()[0]
    assert isinstance(liveness.at(inner, 0), Live)
    assert isinstance(liveness.of(inner.outputs[0]), Live)


def test_an_unknown_shape_is_live() -> None:
    body = f"h = MatMul (x, W)  i = NonZero (h)  j = Gather (h, i)  k = Add (j, f)  y = {NORM.format('k')}"
    found, liveness = looked_at(graph(body, "y", STREAM + ", float[8] f"))
    assert "the shape of" in live(found, liveness, "j").reason
    assert "NonZero" in live(found, liveness, "h").reason


def test_the_nearest_cause_is_named_and_of_equals_the_first() -> None:
    body = """
        h = MatMul (x, W)
        i = Identity (h)
        z = Exp (i)
        t = Tanh (h)
        s = Sin (h)
    """
    outputs = ", ".join(f"float[b, t, 8] {name}" for name in "zts")
    found, liveness = looked_at(graph(body, outputs))
    assert "Tanh" in live(found, liveness, "h").reason
    assert live(found, liveness, "h").far == 0
    assert "Exp" in live(found, liveness, "i").reason


GRAPHS = {
    "pre-norm": (graph(BLOCK), 18),
    "pre-norm with an output inside": (graph(BLOCK, "float[b, t, 8] y, float[b, t, 8] h1"), 18),
    "a norm in many nodes": (spelled(), 17),
    "a norm read inside": (spelled("z = Softmax (s)", "float[b, t, 8] y, float[b, t, 8] z"), 17),
    "scores": (
        graph("s = MatMul (x, W)  d = Div (s, f)  p = Softmax (d)", "p", STREAM + ", float[b, 1, 1] f"),
        18,
    ),
    "heads": (
        f"""m ({STREAM}, float[4] e) => (y) <int64[4] heads = {{0, 0, 2, 4}}, int64[3] rows = {{0, 0, 8}}> {{
            h = MatMul (x, W)  k = Reshape (h, heads)  l = Transpose <perm = [0, 2, 1, 3]> (k)
            n = LayerNormalization <axis = -1> (l, e)  o = Transpose <perm = [0, 2, 1, 3]> (n)
            y = Reshape (o, rows) }}""",
        18,
    ),
}  # fmt: skip


def shifted(found: Recognition, liveness: Liveness) -> int:
    """Adds a member of its family to every value that may be shifted."""
    model, draw = found.model, np.random.default_rng(5)
    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    demands = [(v, liveness.of(v)) for v in values if v.dtype == ir.DataType.FLOAT]
    count = 0
    for v, demand in demands:
        shape = found.facts[v].shape
        if isinstance(demand, Live) or shape is None:
            continue
        chain = sorted({1, int(np.prod(shape))}.union(*demand.intervals))[::-1]
        spans = [(lo, hi) for hi, lo in pairwise(chain)]
        fixed = [any(a <= lo and hi <= b for a, b in demand.intervals) for lo, hi in spans]
        rows = draw.normal(
            size=[1 if still else hi // lo for (lo, hi), still in zip(spans, fixed, strict=True)]
        )
        array = np.broadcast_to(rows, [hi // lo for lo, hi in spans]).reshape(shape).astype(np.float32)
        shift = ir.Value(name=f"shift{count}", const_value=ir.tensor(array, name=f"shift{count}"))
        model.graph.register_initializer(shift)
        users = list(v.uses())
        node = ir.node("Add", [v, shift])
        node.outputs[0].name = f"shifted{count}"
        for user, index in users:
            user.replace_input_with(index, node.outputs[0])
        producer = v.producer()
        if producer is None:
            model.graph.insert_before(model.graph[0], node)
        else:
            model.graph.insert_after(producer, node)
        count += 1
    return count


@pytest.mark.parametrize("name", GRAPHS)
def test_all_that_may_be_shifted_shifted_at_once_moves_no_output(name: str) -> None:
    text, opset = GRAPHS[name]
    found, liveness = looked_at(text, opset)
    draw = np.random.default_rng(4)
    feeds = {
        v.name: draw.normal(size=found.facts[v].shape).astype(np.float32) for v in found.model.graph.inputs
    }
    before = ReferenceEvaluator(ir.to_proto(found.model)).run(None, feeds)
    for v in (v for node in found.model.graph for v in node.outputs):
        v.dtype = found.facts[v].dtype
    assert shifted(found, liveness) >= 2
    after = ReferenceEvaluator(ir.to_proto(found.model)).run(None, feeds)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)  # float32, and shifts as large as what they are added to
