"""The function of a rowwise operator comes from a file: only what we write is read as a definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from tautomer.codegen.trace import trace
from tautomer.errors import InputError
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.rows import apply
from tautomer.patterns.rowwise.program import PREFIX, Body, Layout, fingerprint
from tautomer.patterns.rowwise.reading import definition_in

AXIS = {"axis": -1}
LAST = Layout()
Write = Callable[[Body], ir.Value]


def body_of(write: Write, kinds: tuple[str, ...] = ("full", "row"), layout: Layout = LAST) -> ir.Function:
    body = Body(18, layout, kinds)
    return body.finish(write(body))


def gated_norm(body: Body) -> ir.Value:
    """x / sqrt(mean(x^2) + 1e-5) * row + full."""
    b, (x, full, row) = body.builder, body.values
    mean = b.reduce("ReduceMean", b.op("Mul", x, x), body.layout.reduced)
    root = b.op("Sqrt", b.op("Add", mean, b.constant(np.asarray(1e-5, np.float32))))
    return b.op("Add", b.op("Mul", b.op("Div", x, root), row), full)


def test_a_body_that_we_wrote_is_read_as_what_it_computes() -> None:
    definition = definition_in(body_of(gated_norm), AXIS)
    random = np.random.default_rng(0)
    x, full, row = random.normal(size=(3, 5)), random.normal(size=(3, 5)), random.normal(size=5)
    found = apply(definition, Float64(), x, axes=(-1,), operands={"full1": full, "row2": row})
    right = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-5)) * row + full
    # the order of a sum of five
    np.testing.assert_allclose(found, right, rtol=1e-14)
    assert (definition.rows, trace(definition).kinds) == ("trailing", ("full", "row"))


def test_equal_bodies_have_equal_names_and_others_have_others() -> None:
    other = body_of(lambda body: body.builder.op("Relu", gated_norm(body)))
    assert body_of(gated_norm).name == body_of(gated_norm).name != other.name


def test_the_name_depends_on_how_many_axes_make_a_row() -> None:
    def scaled(body: Body) -> ir.Value:
        return body.builder.op("Mul", *body.values)

    assert body_of(scaled, ("row",)).name != body_of(scaled, ("row",), Layout(2)).name


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MatMul", {}),
        ("Softmax", {"axis": 0}),
        ("Softmax", {}),
        ("Elu", {"alpha": 1}),
        ("Cast", {"to": 11}),
        ("Transpose", {"perm": [1, 0]}),
        ("ReduceMean", {"keepdims": 1}),
        ("ReduceSum", {"keepdims": 1}),
        ("Tan", {}),
        ("NoSuchOperator", {}),
        ('Relu"; system("id"); "', {}),
    ],
)
def test_operators_that_are_not_in_the_list_are_refused(op: str, attributes: dict[str, object]) -> None:
    def hostile(body: Body) -> ir.Value:
        x = gated_norm(body)
        inputs = (x, x) if op == "MatMul" else (x,)
        return body.builder.op("Relu", body.builder.op(op, *inputs, **attributes))

    with pytest.raises(InputError):
        definition_in(body_of(hostile), AXIS)


@pytest.mark.parametrize("axes", [[0], [-2], [1], [-2, -1], []])
def test_reductions_over_other_axes_are_refused(axes: list[int]) -> None:
    with pytest.raises(InputError):
        definition_in(body_of(lambda b: b.builder.op("Sub", b.values[0], _mean(b, axes, True))), AXIS)


def _mean(body: Body, axes: list[int], keepdims: bool) -> ir.Value:
    return body.builder.reduce("ReduceMean", body.values[0], axes, keepdims)


def test_reductions_that_drop_their_axes_are_refused() -> None:
    with pytest.raises(InputError):
        definition_in(body_of(lambda b: b.builder.op("Sub", b.values[0], _mean(b, [-1], False))), AXIS)


@pytest.mark.parametrize(
    "write",
    [
        lambda b: b.builder.op("Add", b.builder.op("Less", b.values[0], b.values[1]), b.values[0]),
        lambda b: b.builder.op("Less", b.values[0], b.values[1]),
        lambda b: b.builder.op("Where", b.values[0], b.values[0], b.values[1]),
        lambda b: b.builder.op("Pow", b.values[0], b.values[1]),
        lambda b: b.builder.op("Pow", b.values[0], b.builder.constant(np.asarray(2.5, np.float32))),
        lambda b: _mean_of_the_same(b),
    ],
    ids=["sum of a truth", "truth", "choice by a number", "power", "power of 2.5", "mean of a mean"],
)
def test_what_has_no_kernel_is_refused_when_it_is_traced(write: Write) -> None:
    with pytest.raises(InputError):
        trace(definition_in(body_of(write), AXIS))


def _mean_of_the_same(body: Body) -> ir.Value:
    b = body.builder
    mean = _mean(body, [-1], True)
    return b.op("Add", body.values[0], b.reduce("ReduceMean", mean, [-1]))


@pytest.mark.parametrize(
    "number", [np.float64(1.0), np.int64(1), np.ones(3, np.float32), np.ones((2, 2), np.int64)]
)
def test_constants_other_than_single_numbers_are_refused(number: np.generic) -> None:
    with pytest.raises(InputError):
        definition_in(
            body_of(lambda b: b.builder.op("Add", b.values[0], b.builder.constant(np.asarray(number)))), AXIS
        )


def renamed(function: ir.Function, name: str) -> ir.Function:
    attributes = list(function.attributes.values())
    return ir.Function(function.domain, name, graph=function.graph, attributes=attributes)


def test_a_name_that_is_not_that_of_the_body_is_refused() -> None:
    function = body_of(gated_norm)
    stolen = ir.Function(
        function.domain,
        PREFIX + "0" * 16,
        graph=function.graph,
        attributes=list(function.attributes.values()),
    )
    with pytest.raises(InputError, match="name"):
        definition_in(stolen, AXIS)


def test_a_body_with_another_beginning_is_refused_even_under_its_own_name() -> None:
    function = body_of(gated_norm)
    first = function.graph[0]
    first.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT16))
    name = PREFIX + fingerprint(LAST, function.inputs, list(function.graph))
    with pytest.raises(InputError, match="not a function that we write"):
        definition_in(renamed(function, name), AXIS)


@pytest.mark.parametrize("attributes", [{}, {"axis": 1}, {"axis": -65}, {"axis": "-1"}, {"axis": -2}])
def test_nodes_that_say_nothing_sensible_of_their_rows_are_refused(attributes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        definition_in(body_of(gated_norm), attributes)
