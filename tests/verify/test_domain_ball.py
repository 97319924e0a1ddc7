"""Ball arithmetic against float64 on ordinary inputs, and what only it can say."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from flint import ctx
from product_shapes import SHAPES

from tautomer.graph.call import call_of
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.meaning import compute
from tautomer.patterns.operation import definitions
from tautomer.patterns.rows import apply
from tautomer.verify.ball import Ball, Balls, Undecided, agree

F = Float64()
M = Ball()
PER_OPERATOR, LARGEST = 4, 400
PLAIN = {np.dtype(kind) for kind in "?bhilBHILfd"}
REFUSED = (
    "training mode",
    "positions of the maxima",
    "nan is not a real number",
    "no meaning",
    "neither a tensor",
)


def centres(x: Balls) -> Any:
    assert all(ball.is_finite() or abs(float(ball)) == np.inf for ball in x.array.reshape(-1))
    return np.array([float(ball.mid()) for ball in x.array.reshape(-1)]).reshape(x.array.shape)


def cases() -> Iterator[tuple[str, ir.Model, list[Any]]]:
    """A few of ONNX's own cases of each operator, on plain and small tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases are made by overflowing on purpose
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    seen: Counter[str] = Counter()
    for case in found:
        if case.model is None or case.model.functions:
            continue
        operators = [node.op_type for node in case.model.graph.node]
        for inputs, _ in case.data_sets:
            if seen[operators[-1]] < PER_OPERATOR and all(
                isinstance(a, np.ndarray) and a.dtype in PLAIN and a.size <= LARGEST for a in inputs
            ):
                seen[operators[-1]] += 1
                yield case.name, ir.from_proto(case.model), inputs


def run(m: Any, model: ir.Model, inputs: list[Any]) -> list[Any]:
    environment: dict[Any, Any] = {None: None}
    environment.update(
        zip(model.graph.inputs, (None if a is None else lift(m, a) for a in inputs), strict=False)
    )
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        environment[value] = lift(m, value.const_value.numpy())
    for node in model.graph:
        outputs = compute(
            m, call_of(node, model.opset_imports[node.domain]), [environment[v] for v in node.inputs]
        )
        environment.update(zip(node.outputs, outputs, strict=False))
    return [environment[value] for value in model.graph.outputs]


def test_node_cases_of_onnx() -> None:
    ran, failed = 0, []
    for name, model, inputs in cases():
        try:
            expected = run(F, model, inputs)
        except (Unsupported, ValueError, TypeError, AttributeError):
            continue  # sequences, strings, operators without a meaning
        try:
            for mine, theirs in zip(run(M, model, inputs), expected, strict=True):
                if F.is_value(theirs):
                    np.testing.assert_allclose(centres(mine), theirs, 1e-12, 1e-12)
                else:
                    np.testing.assert_array_equal(mine, theirs)
            ran += 1
        except Unsupported as refusal:
            if not any(reason in str(refusal) for reason in REFUSED):
                failed.append(f"{name}: {refusal}")
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__} {str(error)[:300]}")
    assert not failed, "\n".join(failed)
    assert ran > 250


@pytest.mark.parametrize("definition", list(definitions()), ids=lambda d: d.key)
def test_definitions(definition: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 6)) * np.array([[1.0], [10.0], [1e-3], [30.0]])
    operands = {
        name: rng.uniform(0.5, 2.0, 6) if definition.kind(name) == "row" else rng.standard_normal((4, 6))
        for name in definition.operands
    }
    axes = (1,) if definition.rows else ()
    expected = apply(definition, F, x, axes=axes, operands=operands)
    lifted = {name: M.constant(value) for name, value in operands.items()}
    np.testing.assert_allclose(
        centres(apply(definition, M, M.constant(x), axes=axes, operands=lifted)), expected, 1e-12, 1e-12
    )


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.bool_]
)
def test_constants_are_exact(dtype: Any) -> None:
    x = np.array([0.1, -3.0e-5, 7.0]).astype(dtype)
    balls = M.constant(x).array
    assert all(ball.is_exact() for ball in balls)
    assert [float(ball) for ball in balls] == x.astype(np.float64).tolist()


def test_precision_is_set_and_restored() -> None:
    before = ctx.prec
    third = M.constant(1.0) / 3.0
    assert ctx.prec == before
    assert third.array[()].rel_accuracy_bits() > 250
    assert Ball(1000).exp(Ball(1000).constant(1.0)).array[()].rel_accuracy_bits() > 990


def test_comparisons_that_are_decided() -> None:
    x = M.exp(M.constant(np.array([0.5, 1.0])))
    assert M.compare("<", x, 2.0).tolist() == [True, False]
    assert M.compare(">=", M.constant(np.array([1.0, 2.0])), 2.0).tolist() == [False, True]
    assert M.compare("==", x, x * 2.0).tolist() == [False, False]
    assert M.compare("==", M.constant(0.5), M.constant(np.float16(0.5))).all()


def test_comparisons_that_cannot_be() -> None:
    two = M.sqrt(M.constant(2.0)) * M.sqrt(M.constant(2.0))
    for op in ("<", "<=", ">", ">=", "=="):
        with pytest.raises(Undecided, match="width of their balls"):
            M.compare(op, two, 2.0)
    with pytest.raises(Undecided, match="2 only up to"):
        M.concrete(two)
    hull = M.maximum(two, 2.0)  # needs no decision
    assert (
        agree(hull, M.constant(2.0)).equal
        and agree(M.amax(M.move(np.atleast_1d, hull), (0,), False), two).equal
    )


def test_powers_of_zero() -> None:
    """0 to a positive power is 0, also to one known within a ball only; of no other power is that said."""
    third, zero = M.constant(1.0) / 3.0, M.constant(0.0)
    assert agree(M.power(zero, third), zero).equal
    assert agree(M.power(zero, zero), M.constant(1.0)).equal
    endless = M.reciprocal(zero)
    around = M.sqrt(M.constant(2.0)) * M.sqrt(M.constant(2.0)) - 2.0
    for base, power in ((zero, -third), (zero, endless), (zero, around), (around, third), (around, -third)):
        found = agree(M.power(base, power), zero)
        assert not found.equal and not found.different, (base, power)
    assert not agree(zero * endless, zero).equal  # a factor that may be anything is no factor of 0


def test_masks() -> None:
    mask = np.array([[0.0, -np.inf, 0.0], [-np.inf, -np.inf, 0.0]])
    x = M.constant(np.random.default_rng(0).standard_normal((2, 3)))
    scores = x + M.constant(mask)
    assert M.isinf(scores).tolist() == np.isinf(mask).tolist() and not M.isnan(scores).any()
    e = M.exp(scores - M.amax(scores, (1,), True))
    softmax = e / M.sum(e, (1,), True)
    assert centres(softmax)[1].tolist() == [0.0, 0.0, 1.0] and centres(softmax)[0, 1] == 0.0
    assert agree(M.maximum(scores, x), x).equal
    empty = M.constant(-np.inf) - M.constant(-np.inf)
    assert agree(empty, empty).undecided == 1  # a fully masked row: nothing is known, and nothing claimed
    with pytest.raises(Undecided):
        M.isnan(empty)
    with pytest.raises(Unsupported, match="nan"):
        M.constant(np.nan)


def test_agreement() -> None:
    x = M.constant(np.arange(6.0).reshape(2, 3))
    y = M.log(M.exp(x))
    assert agree(x, y).equal
    other = y + M.constant(np.where(np.arange(6).reshape(2, 3) == 4, 2.0**-190, 0.0))
    found = agree(x, other)
    assert (found.different, found.same, found.first_different) == (1, 5, (1, 1))
    big = M.constant(2.0**300)
    lost = (x / 3.0 + big) - big  # the radius grew beyond what is evidence
    found = agree(lost, x / 3.0)
    assert found.undecided == 5 and found.first_undecided == (0, 1) and not found.equal
    with pytest.raises(ValueError, match="shapes"):
        agree(x, big)


def test_readings_of_constants() -> None:
    m = Ball(read=True)
    x = m.constant(np.array([0.3, 1.7]))
    root = np.float32(0.70710677)
    assert agree(x * root * root, x * 0.5).equal and not m.assumptions[1:]
    assert "read as 1/sqrt(2)" in m.assumptions[0]
    assert not agree(M.constant(root) * M.constant(root), M.constant(0.5)).equal
    for a, b in ((np.float32(1e-5), 1e-5), (np.float32(np.pi), np.pi), (np.float32(1 / 3), 1 / 3)):
        assert agree(m.constant(a), m.constant(b)).equal
    assert agree(m.constant(1.0000000001), M.constant(1.0000000001)).equal  # a rounding of nothing else


def test_matrix_products() -> None:
    rng = np.random.default_rng(2)
    for a, b in (*SHAPES, ((0, 3), (3, 2)), ((2, 0), (0, 3))):
        x, y = rng.standard_normal(a), rng.standard_normal(b)
        np.testing.assert_allclose(centres(M.matmul(M.constant(x), M.constant(y))), x @ y, 1e-12, 1e-12)


def test_speed_of_matrix_products() -> None:
    x = M.exp(M.constant(np.random.default_rng(2).standard_normal((32, 32))))
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        M.matmul(x, x)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.05
