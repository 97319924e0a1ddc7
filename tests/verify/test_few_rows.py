"""Sites of models with large static sizes: judged on a few rows, at a cost that the sizes do not change."""

from __future__ import annotations

import time

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.graph.facts import propagate
from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.few_rows import few_rows
from tautomer.verify.interpreter import run
from tautomer.verify.neighbourhood import Neighbourhood

GELU = """
    x2 = Mul (x, x)
    x3 = Mul (x2, x)
    c = Constant <value_float = 0.044715> ()
    cx3 = Mul (c, x3)
    sum = Add (x, cx3)
    k = Constant <value_float = 1.5957691216057308> ()
    u = Mul ({k}, sum)
    s = Sigmoid (u)
    new = Mul (x, s)
    old = Gelu <approximate = "tanh"> (x)
"""
NORM = """
    axes = Constant <value_ints = [{axis}]> ()
    mean = ReduceMean (x, axes)
    d = Sub (x, mean)
    d2 = Mul (d, d)
    total = ReduceSum (d2, axes)
    n = Constant <value_float = {count}> ()
    var = Div (total, n)
    eps = Constant <value_float = 1e-5> ()
    vareps = Add (var, eps)
    root = Sqrt (vareps)
    new = Div (d, root)
    gain = ConstantOfShape <value = float[1] {{1}}> (width)
    old = LayerNormalization <axis = -1, epsilon = 1e-5> (x, gain)
"""


def model(body: str, shape: str, head: str = "") -> tuple[ir.Model, dict[str, ir.Value]]:
    """A model with values `x`, `old` and `new`."""
    proto = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 21]>
    g (float[{shape}] x) => (old, new) {head} {{ {body} }}""")
    made = as_model(proto)
    values = {value.name: value for node in made.graph for value in node.outputs}
    values |= {value.name: value for value in made.graph.inputs}
    return made, values


def refusal(body: str, shape: str, head: str = "") -> str:
    """What is said of `new` in the place of `old`, at once."""
    made, values = model(body, shape, head)
    checks = Neighbourhood(made)
    start = time.process_time()
    said = checks.refuses("", values["old"], values["new"], {values["x"]: values["x"]})
    # it takes a tenth of this; with all rows it would take minutes
    assert time.process_time() - start < 2.0
    assert checks.checked == 1 and not checks.skipped
    return said


def gelu(k: str) -> str:
    return GELU.format(k=k)


@pytest.mark.parametrize("shape", ["4096, 3072", "8, 1024, 3072", "12288", "1, 3072"])
def test_a_right_gelu_is_accepted_at_any_size(shape: str) -> None:
    assert not refusal(gelu("k"), shape)


def test_a_wrong_gelu_is_refused_at_a_large_size() -> None:
    assert "differ in exact arithmetic" in refusal(gelu("c"), "4096, 3072")


@pytest.mark.parametrize(
    ("axis", "count", "shape", "right"),
    [
        (-1, 768, (32, 768, 768), True),
        (-1, 767, (32, 768, 768), False),
        (-1, 16, (32, 768, 768), False),
        (-2, 8, (4096, 8, 96), False),
    ],
)
def test_rows_of_a_norm_are_kept_whole(axis: int, count: int, shape: tuple[int, ...], right: bool) -> None:
    width = f"<int64[1] width = {{{shape[-1]}}}>"
    said = refusal(NORM.format(axis=axis, count=count), ", ".join(map(str, shape)), width)
    assert (not said) == right and (right or "differ" in said)


def test_a_slip_at_one_stored_position_is_seen() -> None:
    """What is stored along an axis can differ from index to index, so it is read at all of them."""
    stored = ", ".join(["0"] * 3999)
    head = f"<float[4000] zeros = {{{stored}, 0}}, float[4000] late = {{{stored}, 1}}>"
    said = refusal("old = Add (x, zeros) \n new = Add (x, late)", "30, 4000", head)
    assert said.startswith("3 of 12000 elements differ")


# each with the sizes that are left of x
LAST = "z = Constant <value_int = 2> ()"
BODIES = {
    "pointwise": ("new = Tanh (x) \n old = Exp (new)", (40, 50, 60), (3, 2, 16)),
    "softmax inside": ("old = Softmax <axis = 1> (x) \n new = Neg (old)", (9, 50, 60), (3, 50, 16)),
    "reduction": (
        "a = Constant <value_ints = [0]> () \n old = ReduceMean <keepdims = 0> (x, a) \n new = Neg (old)",
        (40, 50, 60),
        (40, 3, 16),
    ),
    "turned onto itself": (
        "t = Transpose <perm = [1, 0, 2]> (x) \n old = Sub (x, t) \n new = Neg (old)",
        (40, 40, 60),
        (3, 3, 16),
    ),
    "running sum": (f"{LAST} \n old = CumSum (x, z) \n new = Neg (old)", (4, 5, 6), (4, 5, 6)),
    "short axes": ("old = Neg (x) \n new = Exp (old)", (1, 2, 3), (1, 2, 3)),
    "no elements": ("old = Neg (x) \n new = Exp (old)", (0, 40, 60), (0, 3, 16)),
}


@pytest.mark.parametrize("name", BODIES)
def test_few_rows_of_the_input_give_those_of_the_result(name: str) -> None:
    body, shape, expected = BODIES[name]
    made, values = model(body, ", ".join("abc"))
    x = np.random.default_rng(3).standard_normal(shape)
    facts = propagate(made, dict(zip("abc", shape, strict=True)))
    leaves = {values["x"]: values["x"]}
    shapes = few_rows(made, facts, (values["old"], values["new"]), leaves)
    assert shapes[values["x"]] == expected
    whole = run(made, Float64(), {"x": x})
    few = run(made, Float64(), {"x": x[tuple(map(slice, expected))]})
    for result in ("old", "new"):
        assert few[result].shape == shapes[values[result]]
        np.testing.assert_array_equal(few[result], whole[result][tuple(map(slice, few[result].shape))])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("t = Transpose <perm = [0, 2, 1]> (x) \n old = MatMul (x, t) \n new = Neg (old)", (3, 2, 16)),
        ("t = Transpose <perm = [0, 2, 1]> (x) \n old = MatMul (x, t) \n new = Softmax (old)", (3, 50, 16)),
        ("a = Constant <value_ints = [1]> () \n old = ReduceSum (x, a) \n new = Neg (old)", (3, 2, 16)),
        (
            "a = Constant <value_ints = [1]> () \n old = ReduceSum (x, a) \n new = Softmax <axis = 1> (x)",
            (3, 50, 16),
        ),
    ],
    ids=["product", "product whose columns are read", "sum", "sum along what is read"],
)
def test_of_sums_a_few_terms_are_kept(body: str, expected: tuple[int, ...]) -> None:
    made, values = model(body, "a, b, c")
    facts = propagate(made, {"a": 40, "b": 50, "c": 60})
    shapes = few_rows(made, facts, (values["old"], values["new"]), {values["x"]: values["x"]})
    assert shapes[values["x"]] == expected


@pytest.mark.parametrize(
    ("target", "kept"), [("1024, 2, 384", (3, 768)), ("1, 1024, 768", (3, 16)), ("786432", (1024, 768))]
)
def test_a_stored_shape_is_read_as_that_of_the_rows(target: str, kept: tuple[int, ...]) -> None:
    """An axis that a reshape keeps may be shorter; one that it cuts or joins may not."""
    body = "r = Reshape (x, target) \n old = Tanh (r) \n n = Neg (x) \n m = Tanh (n) \n p = Neg (m) \n"
    body += "new = Reshape (p, target)"
    count = target.count(",") + 1
    made, values = model(body, "1024, 768", f"<int64[{count}] target = {{{target}}}>")
    leaves = {values["x"]: values["x"]}
    shapes = few_rows(made, propagate(made, {}), (values["old"], values["new"]), leaves)
    assert shapes[values["x"]] == kept
    if kept != (1024, 768):
        assert not Neighbourhood(made).refuses("", values["old"], values["new"], leaves)
