"""What recognition does with whole graphs: sharing, coverage, sub-graphs, order, reasons."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, parser

import tautomer
from tautomer.graph.reader import as_model
from tautomer.patterns.recognition.recognise import recognise

LAYER = """
    m{i} = ReduceMean <axes=[-1]> ({x})
    c{i} = Sub ({x}, m{i})
    s{i} = Mul (c{i}, c{i})
    v{i} = ReduceMean <axes=[-1]> (s{i})
    e{i} = Add (eps, v{i})
    r{i} = Sqrt (e{i})
    n{i} = Div (c{i}, r{i})
    g{i} = Mul (gain{i}, n{i})
    y{i} = MatMul (g{i}, w)
"""


def _layers(count: int) -> onnx.ModelProto:
    body = "".join(LAYER.format(i=i, x=f"y{i - 1}" if i else "x") for i in range(count))
    gains = ", ".join(f"float[8] gain{i} = {{1,2,3,4,5,6,7,{i + 8}}}" for i in range(count))
    weights = ",".join(str((7 * i) % 5 - 2) for i in range(64))
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[batch, 8] x) => (float[batch, 8] y{count - 1})
        <float eps = {{1e-5}}, float[8,8] w = {{{weights}}}, {gains}> {{ {body} }}"""
    )


def test_equal_layers_are_evaluated_once() -> None:
    few, many = (recognise(as_model(_layers(count))) for count in (2, 12))
    assert len(many.operations) == 12
    assert many.evaluated == few.evaluated


def test_each_layer_gets_its_own_gain() -> None:
    operations = tautomer.inspect(_layers(3))
    assert [one.inputs for one in operations] == [("x", "gain0"), ("y0", "gain1"), ("y1", "gain2")]


def test_the_order_in_which_nodes_are_stored_does_not_matter() -> None:
    model = _layers(2)
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    nodes = list(model.graph.node)
    del shuffled.graph.node[:]
    # any other topological order: means first where their input is there
    shuffled.graph.node.extend([*nodes[:1], *nodes[1:9], *nodes[9:]])
    renamed = shuffled.SerializeToString().replace(b"gain0", b"qqqq0")
    found = tautomer.inspect(onnx.ModelProto.FromString(renamed))
    assert [(one.op, one.attributes) for one in found] == [
        (one.op, one.attributes) for one in tautomer.inspect(model)
    ]


def test_an_operation_inside_an_if_branch_is_found() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 8])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])

    def branch(name: str, op: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8])
        nodes = [
            helper.make_node("Sigmoid", ["x"], [f"{name}s"]),
            helper.make_node(op, ["x", f"{name}s"], [name]),
        ]
        return helper.make_graph(nodes, name, [], [result])

    node = helper.make_node(
        "If", ["flag"], ["y"], then_branch=branch("a", "Mul"), else_branch=branch("b", "Add")
    )
    model = helper.make_model(
        helper.make_graph([node], "g", [flag, x], [y]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    assert {(one.op, one.output) for one in tautomer.inspect(model)} == {("Swish", "a"), ("Sigmoid", "bs")}


SQUARES = """<ir_version: 8, opset_import: ["" : 17]>
g (float[4, 8] x {inputs}) => (float[4, 8] y)
<float eps = {{1e-5}}, float seven = {{7}}> {{
    q = Mul (x, x)
    {middle}
}}"""


@pytest.mark.parametrize(
    ("inputs", "middle", "reason"),
    [
        (
            "",
            "v = ReduceMean <axes=[-1]> (q) r = Sqrt (v) d = Add (r, eps) y = Div (x, d)",
            "adds epsilon outside",
        ),
        (
            "",
            "s = ReduceSum (q, minus) v = Div (s, seven) e = Add (v, eps) r = Sqrt (e) y = Div (x, r)",
            "d - 1",
        ),
        (", float e0", "v = ReduceMean <axes=[-1]> (q) e = Add (v, e0) r = Sqrt (e) y = Div (x, r)", "'e0'"),
        (
            "",
            "v = ReduceMean <axes=[-1]> (q) e = Add (v, eps) r = Sqrt (e) y = Div (r, x)",
            "divides the root",
        ),
    ],
    ids=["epsilon outside", "divisor d - 1", "epsilon a graph input", "swapped operands"],
)
def test_near_misses_are_explained_by_what_they_do(inputs: str, middle: str, reason: str) -> None:
    text = SQUARES.format(inputs=inputs, middle=middle).replace(
        "float seven", "int64[1] minus = {-1}, float seven"
    )
    model = parser.parse_model(text)
    assert not [one for one in tautomer.inspect(model) if "Norm" in one.op]
    missed = [remark for remark in tautomer.explain(model) if remark.kind == "missed"]
    assert any(reason in remark.reason for remark in missed), missed
    assert all(remark.op == "RMSNormalization" for remark in missed)


def test_a_gelu_whose_constants_are_rounded_to_half_precision_is_found() -> None:
    halves = ("three", 3.0), ("cubic", 0.044715), ("root", 0.7978845608), ("one", 1.0), ("half", 0.5)
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> g (float16[n, 8] x) => (float16[n, 8] y) {
        p = Pow (x, three) c = Mul (cubic, p) s = Add (x, c) u = Mul (root, s) t = Tanh (u)
        a = Add (t, one) h = Mul (half, a) y = Mul (x, h) }"""
    )
    model.graph.initializer.extend(
        helper.make_tensor(name, TensorProto.FLOAT16, (), [value]) for name, value in halves
    )
    (found,) = tautomer.inspect(model)
    assert (found.op, found.output, found.attributes) == ("Gelu", "y", {"approximate": "tanh"})


_BEHIND = """<ir_version: 8, opset_import: ["" : 17, "o" : 1]>
g (float[2, 8] x, int64 n, bool go) => (float[2, 8] y) <float eps = {1e-5}> { %s
    s = Mul (k, k) m = ReduceMean <axes = [-1]> (s) e = Add (m, eps) r = Sqrt (e) y = Div (k, r)
}"""
_LOOP = """h = Loop <body = b (int64 i, bool c, float[2, 8] p) => (bool d, float[2, 8] q)
    { d = Identity (c) q = Tanh (p) }> (n, go, x) k = Neg (h)"""


@pytest.mark.parametrize(("before", "made_by"), [(_LOOP, "Loop"), ("h = o.Own (x) k = Neg (h)", "o.Own")])
def test_what_stands_behind_an_unknown_shape_is_found_once_it_is_declared(before: str, made_by: str) -> None:
    model = parser.parse_model(_BEHIND % before)
    # shape inference of ONNX gives none, so to run it would not help
    inferred = onnx.shape_inference.infer_shapes(model)
    for one in (model, inferred):
        (remark,) = (one for one in tautomer.explain(one) if one.op == "RMSNormalization")
        assert remark.hint.startswith("declare the shape of 'h' in the file (graph.value_info)")
        assert remark.hint.endswith(f": none follows for the result of {made_by}")
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 8]))
    assert "RMSNormalization" in [one.op for one in tautomer.inspect(model)]


def test_an_input_without_a_shape_is_named() -> None:
    model = parser.parse_model((_BEHIND % "k = Neg (x)").replace("float[2, 8] x", "float x"))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    (remark,) = (one for one in tautomer.explain(model) if one.op == "RMSNormalization")
    assert remark.hint == "declare the shape of the input 'x'"
