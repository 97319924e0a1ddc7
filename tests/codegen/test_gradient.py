"""Gradients of programs: against differences of the definition, for every definition that has one.

A program is evaluated here as it stands, in float64, so that what is tested is the calculus and not a kernel.
Differences of a smooth function with a step of 1e-6 are off by 1e-9 of what it is curved by; what cancels in
them costs 1e-10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf, erfc

from tautomer.codegen.expression import Node, reachable
from tautomer.codegen.gradient import GRADIENT, GRADIENT_OF_SUM, gradient
from tautomer.codegen.schedule import schedule
from tautomer.codegen.torch.operators import OPERATORS, backward, forward
from tautomer.codegen.trace import Program, trace
from tautomer.errors import InputError
from tautomer.patterns.operation import Definition, definitions

Array = NDArray[np.float64]
DEFINITIONS = {one.key: one for one in definitions() if one.rows != "folded" and one.fit is None}
# what depends on which element is the largest has a gradient that is not of this form
REFUSED = {"SoftmaxPlusOne"}
WITH_GRADIENT = sorted(set(DEFINITIONS) - REFUSED)

_FUNCTIONS: dict[str, Any] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1.0 / np.sqrt(a),
    "erf": erf,
    "one_plus_erf": lambda a: erfc(-a),
    "tanh": np.tanh,
    "tanh_softplus": lambda a: np.tanh(np.logaddexp(0.0, a)),
    "sigmoid": lambda a: 1.0 / (1.0 + np.exp(-a)),
    "abs": np.abs,
    "neg": lambda a: -a,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": np.where,
    "sum": lambda a: a.sum(-1, keepdims=True),
    "max": lambda a: a.max(-1, keepdims=True),
}
_RELATIONS = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


def evaluated(program: Program, values: dict[str, Any]) -> list[Array]:
    """What a program gives for every root, as arrays of the shape of x."""
    shape = values["x"].shape
    known: dict[Node, Any] = {}
    for node in reachable(program.results):
        args = [known[argument] for argument in node.args]
        if node.op in ("x", "operand", "parameter"):
            known[node] = values[node.name or "x"]
        elif node.op == "number":
            known[node] = node.value
        elif node.op == "count":
            known[node] = float(shape[-1])
        elif node.op == "compare":
            known[node] = _RELATIONS[node.name](*args)
        else:
            known[node] = _FUNCTIONS[node.op](*args)
    return [np.broadcast_to(known[root], shape) for root in program.results]


def inputs(program: Program, columns: int = 7, rows: int = 3) -> dict[str, Any]:
    random = np.random.default_rng(columns)
    values: dict[str, Any] = {}
    kinds = dict(zip(program.operands, program.kinds, strict=True))
    for name in ("x", *program.operands, GRADIENT, GRADIENT_OF_SUM):
        row = kinds.get(name) == "row"  # a variance may be among them
        values[name] = random.uniform(0.5, 2.0, columns) if row else random.standard_normal((rows, columns))
    return values


def differences(program: Program, values: dict[str, Any], name: str) -> Array:
    """The derivative of sum(result * gradient) + sum(sum * sum_gradient) by an input, row by row."""
    seeds = [values[GRADIENT], values[GRADIENT_OF_SUM]]

    def loss(changed: Any) -> Any:
        outputs = evaluated(program, values | {name: changed})
        return sum((y * g).sum(-1) for y, g in zip(outputs, seeds, strict=False))

    columns, h = values["x"].shape[-1], 1e-6
    found = np.empty_like(values["x"])
    for column in range(columns):
        step = np.zeros(columns)
        step[column] = h
        found[:, column] = (loss(values[name] + step) - loss(values[name] - step)) / (2 * h)
    return found


def check(program: Program, columns: int = 7) -> None:
    found = gradient(program)
    values = inputs(program, columns)
    values |= {"alpha": 1.3, "beta": 0.4, "gamma": 1.1, "epsilon": 1e-3, "lambd": 0.5}
    values |= {name: values.get(name, 0.3) for name in program.parameters}
    outputs = evaluated(program, values)
    taken = dict(values)
    if found.from_result:
        taken["x"] = outputs[0]
    elif len(outputs) > 1:
        taken["x"] = outputs[1]
    gradients = evaluated(found.program, taken)
    assert len(gradients) == len(found.of)
    for name, got in zip(found.of, gradients, strict=True):
        np.testing.assert_allclose(
            got, differences(program, values, name), rtol=1e-6, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("key", WITH_GRADIENT)
def test_gradient_is_the_limit_of_differences(key: str) -> None:
    program = trace(DEFINITIONS[key])
    if "residual" in program.operands:
        pytest.skip("tested with the sum as an output, below")
    check(program)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda one: one.name)
@pytest.mark.parametrize("columns", [1, 2, 33])
def test_gradients_of_operators(operator: Any, columns: int) -> None:
    if columns == 1 and operator.name == "layer_norm":
        pytest.skip("a row of one element gives 0 whatever it holds; differences see rounding only")
    check(forward(operator).program, columns)


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_has_no_gradient_of_this_form_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="which element is the largest"):
        gradient(trace(DEFINITIONS[key]))


def test_what_is_computed_from_the_result_does_not_read_x() -> None:
    for name in ("softmax", "log_softmax"):
        operator = next(one for one in OPERATORS if one.name == name)
        assert gradient(forward(operator).program).from_result
        assert len(schedule(backward(operator).program).passes) == 1


def test_norms_reduce_as_early_as_they_can() -> None:
    # dx of RMSNorm needs two sums, and neither waits for the other; LayerNorm's wait for the mean
    by_name = {one.name: schedule(backward(one).program).passes for one in OPERATORS}
    assert [len(one) for one in by_name["rms_norm"]] == [2]
    assert [len(one) for one in by_name["layer_norm"]] == [2, 2]


@pytest.mark.parametrize(
    ("key", "at_zero"),
    [
        ("Relu", 0.0),
        ("LeakyRelu", 0.01),
        ("Elu", 1.0),
        ("Softplus", 0.5),
        ("Softsign", 1.0),
        ("SquaredRelu", 0.0),
    ],
)
def test_derivative_at_the_corner(key: str, at_zero: float) -> None:
    found = gradient(trace(DEFINITIONS[key]))
    values: dict[str, Any] = {"x": np.zeros((1, 2)), GRADIENT: np.ones((1, 2))}
    values |= dict(DEFINITIONS[key].parameters)
    (got,) = evaluated(found.program, values)
    np.testing.assert_allclose(got, at_zero)


def test_the_same_definition_gives_the_same_gradient() -> None:
    def text(definition: Definition) -> list[tuple[str, float, list[int]]]:
        program = gradient(trace(definition)).program
        return [(n.op + n.name, n.value, [a.index for a in n.args]) for n in reachable(program.results)]

    one = DEFINITIONS["LayerNormalization"]
    assert text(one) == text(one)
