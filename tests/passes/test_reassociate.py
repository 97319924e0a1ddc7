"""reassociate: products of three matrices take the cheaper order; linear attention with its normaliser."""

from __future__ import annotations

from collections import Counter

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import tautomer

ROWS, WIDTH = 96, 8
LINEAR = """
    a = Exp (q)
    k1 = Exp (k)
    b = Transpose <perm = [0, 2, 1]> (k1)
    s = MatMul (a, b)
"""
NORMALISED = (
    LINEAR
    + """
    t = Mul (s, scale)
    z = ReduceSum (t, last)
    ze = Add (z, eps)
    w = Div (t, ze)
    y = MatMul (w, v)
"""
)


def model(
    body: str, outputs: str = "float[2, 96, 8] y", n: int | str = ROWS, dtype: str = "float"
) -> onnx.ModelProto:
    inputs = ", ".join(f"{dtype}[2, {n}, {WIDTH}] {name}" for name in "qkv")
    held = (
        f"{dtype} scale = {{0.25}}, {dtype} eps = {{0.001}}, int64[1] last = {{-1}}, int64[1] rows = {{1}},"
        f" {dtype}[1, {ROWS}] keys = {{{', '.join(['2.5'] * ROWS)}}}"
    )
    held = "" if dtype == "float16" else held
    outputs = outputs.replace("96", str(n)).replace("float", dtype)
    text = f'<ir_version: 9, opset_import: ["": 18]> m ({inputs}) => ({outputs}) <{held}> {{ {body} }}'
    return onnx.parser.parse_model(text)


def rewritten(made: onnx.ModelProto) -> tuple[dict[str, int], list[str]]:
    result = tautomer.optimize(made)
    assert result.verification is None or result.verification["verdict"] == "EQUAL"
    said = [remark.reason for remark in result.remarks if remark.rule == "reassociate"]
    return dict(Counter(node.op_type for node in result.model.graph)), said


def largest(made: onnx.ModelProto) -> int:
    """Elements of the largest value between inputs and outputs."""
    shaped = onnx.shape_inference.infer_shapes(made, data_prop=True)
    sizes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in shaped.graph.value_info]
    return max(a * b * c for a, b, c in (size for size in sizes if len(size) == 3))


def test_linear_attention_and_its_normaliser_never_make_the_scores() -> None:
    result = tautomer.optimize(model(NORMALISED))
    assert result.verification is not None and result.verification["verdict"] == "EQUAL"
    (remark,) = [remark for remark in result.remarks if remark.rule == "reassociate"]
    assert remark.kind == "passed" and "24576 multiplications for 294912" in remark.reason
    assert largest(model(NORMALISED)) == 2 * ROWS * ROWS
    assert largest(ir.to_proto(result.model)) == 2 * ROWS * WIDTH


def test_linear_attention_of_elu_features_is_verified_at_a_large_fixed_length() -> None:
    """Its products of inputs of 1e19 overflow in either order; exactly, a few of its rows are enough."""
    n, d = 520, 16
    made = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["": 18]>
    m (float[{n}, {d}] q, float[{n}, {d}] k, float[{n}, {d}] v) => (float[{n}, {d}] y)
    <float one = {{1}}, float eps = {{0.000001}}, int64[1] last = {{-1}}> {{
        e = Elu (q) \n a = Add (e, one) \n f = Elu (k) \n k1 = Add (f, one)
        b = Transpose <perm = [1, 0]> (k1) \n s = MatMul (a, b) \n z = ReduceSum (s, last)
        ze = Add (z, eps) \n w = Div (s, ze) \n y = MatMul (w, v)
    }}""")
    result = tautomer.optimize(made)
    assert result.verification is not None and result.verification["verdict"] == "EQUAL"
    assert [remark.kind for remark in result.remarks if remark.rule == "reassociate"] == ["passed"]
    assert any("a few rows" in note for note in result.verification["assumptions"])
    assert result.verification["legs"]["numerics"]["new_sums"] == {"y": n}


def test_heads_without_a_feature_keep_their_order() -> None:
    """Where all of a query's features are 0 its result is, and 0 * inf would be NaN where keys are 1e19."""
    body = LINEAR.replace("Exp", "Relu") + "z = ReduceSum (s, last) \n ze = Add (z, eps) \n w = Div (s, ze)"
    result = tautomer.optimize(model(body + "\n y = MatMul (w, v)"))
    assert result.verification is not None and result.verification["verdict"] == "EQUAL"
    assert not any(remark.rule == "reassociate" for remark in result.remarks)
    assert any("taken back" in remark.reason and "not finite" in remark.reason for remark in result.remarks)


# with the products that there are then
CHAINS = {
    "a chain of products": (LINEAR + "y = MatMul (s, v)", 2),
    "a factor per column": (LINEAR + "t = Mul (keys, s) \n y = MatMul (t, v)", 2),
    "the mean of a row": (
        LINEAR + "z = ReduceMean <keepdims = 0> (s, last) \n f = Unsqueeze (z, last)"
        "\n w = Div (s, f) \n y = MatMul (w, v)",
        3,
    ),
    "two readers": (LINEAR + "u = MatMul (s, v) \n w = MatMul (s, q) \n y = Add (u, w)", 4),
}


@pytest.mark.parametrize("name", CHAINS)
def test_other_forms_take_the_other_order(name: str) -> None:
    body, products = CHAINS[name]
    operators, said = rewritten(model(body))
    assert len(said) == 1 and "in the place of" in said[0] and operators["MatMul"] == products


MISSES = {
    "relu": ("t = Relu (s)", "no factor"),
    "bias": ("t = Add (s, keys)", "no factor"),
    "mask": (
        "m = MatMul (v, b) \n g = Greater (m, scale) \n f = Cast <to = 1> (g) \n t = Mul (s, f)",
        "as a mask does",
    ),
    "square": ("t = Mul (s, s)", "squares"),
    "division by them": ("t = Div (scale, s)", "no factor"),
    "sum over queries": ("c = ReduceSum (s, rows) \n t = Div (s, c)", "no factor"),
    "sum over all": ("c = ReduceSum (s) \n t = Div (s, c)", "no factor"),
    "another reader": ("t = Mul (s, scale) \n u = Neg (s)", "'Neg#u' (Neg) stands between"),
}


@pytest.mark.parametrize("name", MISSES)
def test_what_is_no_factor_is_refused_by_name(name: str) -> None:
    body, reason = MISSES[name]
    outputs = "float[2, 96, 8] y" + (", float[2, 96, 96] u" if " u =" in body else "")
    operators, said = rewritten(model(LINEAR + body + "\n y = MatMul (t, v)", outputs))
    assert operators["MatMul"] == (3 if name == "mask" else 2) and len(said) == 1 and reason in said[0], said


def test_scores_that_are_an_output_stay() -> None:
    _, said = rewritten(model(LINEAR + "y = MatMul (s, v)", "float[2, 96, 8] y, float[2, 96, 96] s"))
    assert said == ["'s', which lies between the products, is an output of the model"]


def test_the_order_that_takes_less_stays_and_softmax_is_nobodys_business() -> None:
    few = LINEAR + "y = MatMul (s, v)"
    assert rewritten(model(few, n=5))[1] == [
        "the other order takes 1280 multiplications for 800: a third of them gains"
    ]
    assert rewritten(model(few, n=WIDTH))[1] == []
    assert rewritten(model(LINEAR + "w = Softmax (s) \n y = MatMul (w, v)"))[1] == []


def test_an_open_length_is_declined_with_the_length_from_which_on_it_gains() -> None:
    _, said = rewritten(model(LINEAR + "y = MatMul (s, v)", n="n"))
    assert said == [
        "the shape of what lies between the products is open,"
        " and it gains from more than 24 rows and columns on"
    ]


def test_float16_sums_are_left_alone() -> None:
    _, said = rewritten(model(LINEAR + "y = MatMul (s, v)", dtype="float16"))
    assert said == ["in float16 a sum over all columns of B may overflow"]


WRONG = {
    "a factor is left out": ("applied", lambda step, b, value: value),
    "a factor per row is taken for one per column": (
        "applied",
        lambda step, b, value: b.op("Mul", value, b.op("Transpose", step.node.inputs[1], perm=[0, 2, 1])),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_refused_by_the_evidence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, wrong = WRONG[name]
    monkeypatch.setattr(f"tautomer.passes.linear_maps.triple_products.Step.{method}", wrong)
    body = LINEAR + "d = ReduceMean (q, last) \n t = Mul (s, d) \n y = MatMul (t, v)"
    operators, said = rewritten(model(body))
    assert operators["MatMul"] == 2 and len(said) == 1 and "exact" in said[0], said
