"""Facts against ONNX's own test cases and shape inference, and on graphs that exporters write."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.graph.facts import EMPTY, Fact, Facts, bind_symbols, propagate

# Expected outputs that contradict the text, see test_semantics.py.
CONTRADICTED = {
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
}


def parsed(text: str, opset: int = 18, header: str = "") -> ir.Model:
    """A model from ONNX's text format."""
    source = f'<ir_version: 9, opset_import: ["" : {opset}, "com.microsoft" : 1, "odd" : 1]{header}>\n{text}'
    return ir.from_proto(onnx.parser.parse_model(source))


def by_name(model: ir.Model, sizes: dict[str, int] | None = None) -> dict[str, Fact]:
    facts = propagate(model, bind_symbols(model) if sizes is None else sizes)
    return {str(value.name): facts[value] for value in facts}


def node_cases() -> list[tuple[Any, list[Any], list[Any]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases are made by overflowing on purpose
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    return [
        (case, list(inputs), list(outputs))
        for case in found
        if case.model is not None and case.name not in CONTRADICTED
        for inputs, outputs in case.data_sets
        if all(isinstance(a, np.ndarray) and a.dtype.kind in "fiub" for a in [*inputs, *outputs])
    ]


def test_node_cases_of_onnx_with_inputs_and_with_constants() -> None:
    shapes, contents, wrong = 0, 0, []
    for case, inputs, expected in node_cases():
        for frozen in (False, True):
            model = ir.from_proto(case.model)
            for output in model.graph.outputs:
                output.shape = None  # what is declared would hide what is computed
            if frozen:
                for value, array in zip(list(model.graph.inputs), inputs, strict=False):
                    value.const_value = ir.tensor(array)
                    model.graph.inputs.remove(value)
                    model.graph.register_initializer(value)
            facts = propagate(model, {})
            for output, array in zip(model.graph.outputs, expected, strict=True):
                fact = facts[output]
                shapes += fact.shape is not None
                contents += fact.array is not None
                if fact.shape not in (None, array.shape):
                    wrong.append(f"{case.name}: {fact.shape}, not {array.shape}")
                if fact.dtype is not None and fact.dtype != ir.DataType.from_numpy(array.dtype):
                    wrong.append(f"{case.name}: {fact.dtype}, not {array.dtype}")
                if fact.array is not None:
                    # half precision cases are right to 2^-11; everything else is better than this
                    near = np.allclose(fact.array, array, 1e-2, 1e-4, equal_nan=True)
                    if fact.array.shape != array.shape or not near:
                        wrong.append(f"{case.name}: content")
    assert not wrong, "\n".join(wrong)
    assert shapes > 2500 and contents > 700, (shapes, contents)


def test_agrees_with_shape_inference_of_onnx() -> None:
    text = """
    agraph (float[2,3,8,8] image, float[2,5,12] tokens, int64[4] ids) => (float[] y)
    <float[6,3,3,3] filters = {0}, float[12,20] table = {0}, int64[2] axes = {1, 2}>
    {
        c = Conv<pads=[1,1,1,1], strides=[2,2]>(image, filters)
        p = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(c)
        a = AveragePool<kernel_shape=[2,2], auto_pad="SAME_UPPER">(c)
        g = GlobalAveragePool(a)
        f = Flatten(g)
        m = MatMul(tokens, table)
        s = Softmax(m)
        t = Transpose<perm=[0,2,1]>(s)
        r = ReduceMean<keepdims=0>(t, axes)
        l, i = TopK<axis=-1>(t, k)
        k = Constant<value = int64[1] {3}>()
        e = Gather<axis=1>(table, ids)
        q = Equal(m, m)
        n = Cast<to=7>(m)
        d = DepthToSpace<blocksize=2>(pad)
        pad = Pad(up, widths)
        up = Concat<axis=1>(c, c)
        widths = Constant<value = int64[8] {0,0,0,0, 0,0,1,1}>()
        left, right = Split<num_outputs=2, axis=2>(m)
        u = Einsum<equation="bij,bkj->bik">(tokens, tokens)
        y = Sum(r, r)
    }"""
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]>{text}')
    facts = by_name(ir.from_proto(proto))
    ordered = ir.from_proto(proto)
    ordered.graph.sort()
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(ordered), data_prop=True, strict_mode=True)
    checked = 0
    for info in inferred.graph.value_info:
        tensor = info.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            assert facts[info.name].shape == tuple(d.dim_value for d in tensor.shape.dim), info.name
            assert facts[info.name].dtype == ir.DataType(tensor.elem_type), info.name
            checked += 1
    assert checked >= 20
    assert all(fact.static for fact in facts.values())


RESHAPE_CHAIN = """
agraph (float[batch, seq, 64] x, int64[batch, seq] ids) => (float[batch, heads, seq, 16] y)
<int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] h = {4}, int64[1] w = {16}>
{
    s = Shape(x)
    b0 = Gather(s, zero)
    s0 = Gather(s, one)
    b1 = Unsqueeze(b0, first)
    s1 = Unsqueeze(s0, first)
    target = Concat<axis=0>(b1, s1, h, w)
    split = Reshape(x, target)
    y = Transpose<perm=[0,2,1,3]>(split)
}"""


def test_shape_arithmetic_of_an_exporter_is_computed() -> None:
    model = parsed(RESHAPE_CHAIN)
    sizes = bind_symbols(model)
    assert sizes == {"batch": 13, "seq": 17}
    facts = by_name(model, sizes)
    assert facts["target"].array is not None and facts["target"].array.tolist() == [13, 17, 4, 16]
    assert facts["target"].array.dtype == np.int64
    assert facts["split"].shape == (13, 17, 4, 16)
    assert facts["y"] == Fact((13, 4, 17, 16), ir.DataType.FLOAT)
    assert not facts["target"].constant and facts["h"].constant


def test_mask_of_torchscript_is_computed() -> None:
    model = parsed(
        """
        agraph (float[batch, seq] x) => (bool[] y)
        <int64[1] two = {2}, float one = {1.0}, int64 zero = {0}, int64 step = {1}, int64 axis = {1}>
        {
            shape = Shape(x)
            rank = Shape(shape)
            ones = ConstantOfShape<value = int64[1] {1}>(rank)
            minus = Constant<value = int64 {-1}>()
            scaled = Mul(ones, minus)
            wanted = Equal(shape, scaled)
            size = Where(wanted, ones, shape)
            full = Expand(one, size)
            length = Gather(shape, axis)
            real = Cast<to=1>(length)
            root = Sqrt(real)
            positions = Range(zero, length, step)
            column = Unsqueeze(positions, last)
            last = Constant<value = int64[1] {1}>()
            y = LessOrEqual(positions, column)
        }"""
    )
    facts = by_name(model)
    assert facts["full"].shape == (13, 17) and facts["full"].array is not None
    assert facts["root"].array is not None and float(facts["root"].array) == 17**0.5
    assert facts["root"].dtype == ir.DataType.FLOAT
    np.testing.assert_array_equal(facts["y"].array, np.tri(17, dtype=bool))


def test_symbols_get_distinct_primes_and_expressions_their_value() -> None:
    model = parsed(
        """
        agraph (float[b, 1, m] mask, float[b, s, 8] x, float[b, past, 8] kv, float[o, o] odd) => (float[] y)
        { y = Concat<axis=1>(kv, x) }"""
    )
    mask, odd = model.graph.inputs[0], model.graph.inputs[3]
    mask.shape = ir.Shape(["b", 1, "past + s"])
    odd.shape = ir.Shape([None, "s - 40"])
    sizes = bind_symbols(model)
    assert sizes == {"b": 13, "s": 17, "past": 19, "odd[0]": 23, "past + s": 36, "s - 40": 29}
    assert list(bind_symbols(model)) == list(sizes)
    facts = propagate(model, sizes)
    assert facts[odd].shape == (23, sizes["s - 40"])
    assert facts[model.graph.outputs[0]].shape == (13, 36, 8)


@pytest.mark.parametrize("symbol", ["(" * 500, "a.b", "9" * 300, "f(x)", "a//0", "-", "b b", "1 if a else 2"])
def test_strange_symbols_are_only_names(symbol: str) -> None:
    model = parsed("agraph (float[a] x) => (float[] y) { y = Exp(x) }")
    model.graph.inputs[0].shape = ir.Shape([symbol])
    sizes = bind_symbols(model)
    assert propagate(model, sizes)[model.graph.outputs[0]].shape == (13,)


def test_a_negative_size_counts_as_unnamed() -> None:
    model = parsed("agraph (float[a, 4] x) => (float[] y) { y = Exp(x) }")
    model.graph.inputs[0].shape = ir.Shape([-1, 4])
    assert bind_symbols(model) == {"x[0]": 13}
    assert by_name(model)["y"] == Fact((13, 4), ir.DataType.FLOAT)


def test_constant_and_static() -> None:
    facts = by_name(
        parsed(
            """
            agraph (float[2, 3] x, float[n, 3] z, float[3] overridable) => (float[] y)
            <float[3] w = {1, 2, 3}, float[3] overridable = {1, 2, 3}>
            {
                doubled = Add(w, w)
                fixed = Shape(x)
                bound = Shape(z)
                replaced = Add(overridable, w)
                noise = RandomNormal<shape = [2]>()
                data = Add(x, w)
                joined = Reshape(z, flat)
                flat = Constant<value_ints = [-1]>()
                y = Identity(joined)
            }"""
        )
    )
    constant = {name for name, fact in facts.items() if fact.constant}
    assert constant == {"w", "doubled", "fixed", "flat"}
    assert facts["overridable"].array is None and facts["replaced"].array is None
    assert facts["bound"].array is not None and facts["bound"].static
    assert facts["data"].static and not facts["joined"].static
    assert facts["joined"].shape == (39,)


def test_a_large_initializer_is_never_read() -> None:
    def refuse() -> Any:
        raise AssertionError("read")

    model = parsed("agraph (float[2, 5000] x) => (float[] y) { y = Add(x, x) }")
    lazy = ir.LazyTensor(refuse, dtype=ir.DataType.FLOAT, shape=ir.Shape([5000]), name="w")
    weight = ir.Value(
        name="w", const_value=lazy, shape=ir.Shape([5000]), type=ir.TensorType(ir.DataType.FLOAT)
    )
    model.graph.register_initializer(weight)
    (node,) = model.graph
    node.replace_input_with(1, weight)
    facts = propagate(model, {})
    assert facts[weight] == Fact((5000,), ir.DataType.FLOAT, None, constant=True, static=True)
    assert facts[node.outputs[0]].shape == (2, 5000)


def test_external_data_that_is_missing_leaves_the_content_unknown() -> None:
    model = parsed("agraph (float[3] x) => (float[] y) { y = Add(x, x) }")
    gone = ir.ExternalTensor(
        "gone.bin", 0, 12, ir.DataType.FLOAT, shape=ir.Shape([3]), name="w", base_dir="/nowhere"
    )
    weight = ir.Value(name="w", const_value=gone)
    model.graph.register_initializer(weight)
    assert propagate(model, {})[weight] == Fact((3,), ir.DataType.FLOAT, None, constant=True, static=True)


def test_huge_computed_tensors_are_not_built() -> None:
    facts = by_name(
        parsed(
            """
            agraph (float[2] x) => (float[] y)
            <int64[3] huge = {1000000, 1000000, 1000000}, int64 zero = {0}, int64 far = {4000000000000}>
            {
                ones = ConstantOfShape(huge)
                wide = Expand(one, huge)
                one = Constant<value_float = 1.0>()
                long = Range(zero, far, step)
                step = Constant<value_int = 1>()
                y = Tile(x, far1)
                far1 = Constant<value_ints = [4000000000000]>()
            }"""
        )
    )
    assert facts["ones"].shape == facts["wide"].shape == (10**6,) * 3
    assert facts["ones"].array is None and facts["wide"].array is None and facts["ones"].constant
    assert facts["long"].shape == (4 * 10**12,) and facts["long"].array is None
    assert facts["y"].shape == (8 * 10**12,)


def test_subgraphs_see_outer_values() -> None:
    facts = by_name(
        parsed(
            """
            agraph (float[n, 4] x, bool condition) => (float[] y)
            <int64 trips = {3}, bool go = {1}>
            {
                s = Shape(x)
                y = If(condition) <
                    then_branch = one () => (float[] a) { a0 = Exp(x)  a = Reshape(a0, s) },
                    else_branch = two () => (float[] b) { b = Relu(x) }
                >
                z = Loop(trips, go, x) <
                    body = three (int64 i, bool c, float[n, 4] v) => (bool c1, float[n, 4] v1)
                    { c1 = Identity(c)  v1 = Add(v, x) }
                >
            }"""
        )
    )
    assert facts["a"].shape == facts["b"].shape == facts["y"].shape == (13, 4)
    assert facts["v1"] == Fact((13, 4), ir.DataType.FLOAT)
    assert facts["z"].shape is None and not facts["y"].constant


def test_branch_of_a_known_condition_decides() -> None:
    facts = by_name(
        parsed(
            """
            agraph (float[n, 4] x) => (float[] y)
            <bool condition = {0}>
            {
                y = If(condition) <
                    then_branch = one () => (float[] a) { a = Transpose(x) },
                    else_branch = two () => (float[] b) { b = Relu(x) }
                >
            }"""
        )
    )
    assert facts["y"].shape == (13, 4)


def test_named_operations_of_onnxruntime() -> None:
    facts = by_name(
        parsed(
            """
            agraph (float[b, s, 8] x, float[8] g) => (float[] y)
            {
                n, mean, inverse, sum = com.microsoft.SkipLayerNormalization(x, x, g, g)
                f = com.microsoft.FastGelu(n, g)
                r = SimplifiedLayerNormalization(f, g)
                p = com.microsoft.FusedMatMul<transB=1>(r, r)
                a, k = com.microsoft.MultiHeadAttention<num_heads=2>(x, x, x)
                y = Identity(p)
            }"""
        )
    )
    assert facts["n"].shape == facts["sum"].shape == facts["f"].shape == facts["r"].shape == (13, 17, 8)
    assert facts["mean"].shape == facts["inverse"].shape == (13, 17, 1)
    assert facts["y"].shape == (13, 17, 17)
    assert facts["a"].shape == (13, 17, 8) and facts["k"].shape is None


def test_unknown_operators_have_what_is_declared() -> None:
    model = parsed(
        """
        agraph (float[n, 4] x) => (float[n, 7] y)
        <float[n, n] declared>
        {
            declared = odd.Thing(x)
            unknown = odd.Thing(declared)
            after = Add(unknown, x)
            y = odd.Last(after)
        }"""
    )
    facts = propagate(model, bind_symbols(model))
    known = {str(value.name): facts[value] for value in facts}
    assert known["declared"].shape == (13, 13)
    assert known["y"] == Fact((13, 7), ir.DataType.FLOAT)
    assert known["unknown"].shape is None and known["after"].shape is None
    assert facts.get(None) is EMPTY and facts.get(ir.Value(name="elsewhere")) is EMPTY
    assert isinstance(facts, Facts) and len(dict(facts.items())) == 5


def test_a_model_local_function_hides_the_operator_of_its_name() -> None:
    source = """
    <ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]>
    agraph (float[3, 4] x) => (float[] y) { h = com.microsoft.FastGelu(x)  y = Exp(x) }
    <domain: "com.microsoft", opset_import: ["" : 18]>
    FastGelu (a) => (b) { b = Transpose(a) }"""
    facts = by_name(ir.from_proto(onnx.parser.parse_model(source)))
    assert facts["h"].shape is None and facts["y"].shape == (3, 4)


def test_nodes_that_do_not_fit_are_unknown_and_hide_nothing() -> None:
    facts = by_name(
        parsed(
            """
            agraph (float[2, 3] x, float[5] v) => (float[] y)
            <int64[1] bad = {-7}, int64[1] outside = {99}, int64[2] twice = {-1, -1}>
            {
                a = Add(x, v)
                b = Reshape(x, twice)
                c = ConstantOfShape(bad)
                d = Gather(v, outside)
                e = Transpose<perm=[0, 9]>(x)
                f = Concat(x, v)
                g = MatMul(x, v)
                h = Cast(x)
                i = Slice(x)
                k = Conv(x, v)
                z = Softmax<axis = 1>(missing)
                missing = Split(a)
                y = Exp(x)
            }"""
        )
    )
    for name in "abcefgikz":
        assert facts[name].shape is None, name
    assert facts["d"].array is None
    assert facts["y"].shape == (2, 3)


def test_a_cycle_ends() -> None:
    model = parsed("agraph (float[2] x) => (float[] y) { a = Exp(x)  y = Exp(a) }")
    first, second = model.graph
    first.replace_input_with(0, second.outputs[0])
    assert propagate(model, {})[second.outputs[0]].dtype == ir.DataType.FLOAT


def layers(count: int) -> ir.Model:
    """Decomposed transformer layers of 24 nodes, with the shape arithmetic of an exporter."""
    lines, value = [], "x"
    for i in range(count):
        lines.append(f"""
            mean{i} = ReduceMean<axes=[-1]>({value})  centred{i} = Sub({value}, mean{i})
            square{i} = Pow(centred{i}, two)  variance{i} = ReduceMean<axes=[-1]>(square{i})
            shifted{i} = Add(variance{i}, epsilon)  root{i} = Sqrt(shifted{i})
            norm{i} = Div(centred{i}, root{i})  scaled{i} = Mul(norm{i}, g)
            shape{i} = Shape({value})  b{i} = Gather(shape{i}, zero)  s{i} = Gather(shape{i}, one)
            ub{i} = Unsqueeze<axes=[0]>(b{i})  us{i} = Unsqueeze<axes=[0]>(s{i})
            to{i} = Concat<axis=0>(ub{i}, us{i}, h, w)
            heads{i} = Reshape(scaled{i}, to{i})  turned{i} = Transpose<perm=[0,2,1,3]>(heads{i})
            other{i} = Transpose<perm=[0,2,3,1]>(heads{i})  logits{i} = MatMul(turned{i}, other{i})
            p{i} = Softmax<axis=-1>(logits{i})  o{i} = MatMul(p{i}, turned{i})
            back{i} = Transpose<perm=[0,2,1,3]>(o{i})  flat{i} = Concat<axis=0>(ub{i}, us{i}, wide)
            joined{i} = Reshape(back{i}, flat{i})  out{i} = Add({value}, joined{i})""")
        value = f"out{i}"
    return parsed(
        f"""
        agraph (float[batch, seq, 16] x) => (float[] y)
        <float two = {{2}}, float epsilon = {{0.00001}}, float[16] g = {{1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}},
         int64 zero = {{0}}, int64 one = {{1}},
         int64[1] h = {{4}}, int64[1] w = {{4}}, int64[1] wide = {{16}}>
        {{ {"".join(lines)} y = Identity({value}) }}""",
        opset=12,
    )


def test_a_model_of_many_layers_is_fast() -> None:
    model = layers(100)
    sizes = bind_symbols(model)
    start = time.process_time()
    facts = propagate(model, sizes)
    seconds = time.process_time() - start
    assert facts[model.graph.outputs[0]].shape == (13, 17, 16)
    assert all(facts[value].shape is not None for node in model.graph for value in node.outputs)
    assert seconds < 1.5  # about 0.1 s
