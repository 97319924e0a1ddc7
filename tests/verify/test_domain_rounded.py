"""Arithmetic that rounds after every operation."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tautomer.graph.semantics.domain import Mathematics
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import definition_of, definitions
from tautomer.patterns.rows import apply
from tautomer.verify.single import Float32, Rounded

TYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def norm(name: str, m: Mathematics, x: Any) -> Any:
    definition = definition_of(name)
    assert definition is not None
    return m.concrete(apply(definition, m, m.constant(x), axes=(1,)))


@pytest.mark.parametrize("dtype", TYPES)
def test_every_result_is_a_number_of_the_type(dtype: Any) -> None:
    m = Rounded(dtype)
    x = m.constant(np.random.default_rng(0).standard_normal((3, 8)))
    sums = [x + 0.1, 0.1 - x, x * x, 1 / x, x / 3, -x, m.mean(x, (1,), True), m.amax(x, (0,), False)]
    functions = [m.exp(x), m.erf(x), m.tanh(x), m.sigmoid(x), m.rsqrt(x * x), m.log1p(x * x), m.cos(x)]
    others = [m.matmul(x, m.move(np.transpose, x)), m.maximum(x, 0.3), m.power(x * x, 0.3)]
    for value in (*sums, *functions, *others, m.where(m.compare("<", x, 0.1), x, 0.1)):
        numbers = m.concrete(value)
        assert m.is_value(value) and m.shape(value) == numbers.shape
        np.testing.assert_array_equal(numbers.astype(dtype).astype(np.float64), numbers)


def test_sums_of_two_are_the_nearest_numbers() -> None:
    rng = np.random.default_rng(1)
    for dtype in TYPES:
        m = Rounded(dtype)
        a, b = (rng.standard_normal(1000).astype(dtype) for _ in range(2))
        exact = a.astype(np.float64), b.astype(np.float64)
        for got, want in (
            (m.constant(a) + m.constant(b), exact[0] + exact[1]),
            (m.constant(a) * m.constant(b), exact[0] * exact[1]),
        ):
            np.testing.assert_array_equal(m.concrete(got), want.astype(dtype).astype(np.float64))


@pytest.mark.parametrize("definition", list(definitions()), ids=lambda d: d.key)
def test_definitions_within_rounding(definition: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 6))
    operands = {
        name: rng.uniform(0.5, 2.0, 6) if definition.kind(name) == "row" else rng.standard_normal((4, 6))
        for name in definition.operands
    }
    axes = (1,) if definition.rows else ()
    m = Float32()
    got = apply(
        definition, m, m.constant(x), axes=axes, operands={k: m.constant(v) for k, v in operands.items()}
    )
    np.testing.assert_allclose(
        m.concrete(got), apply(definition, Float64(), x, axes=axes, operands=operands), 2e-5, 2e-6
    )


def test_the_error_of_a_norm_shows() -> None:
    """One pass, E[x^2] - E[x]^2, loses what two passes keep: the reason for a domain that rounds."""
    x = np.random.default_rng(4).standard_normal((8, 256)) + 300.0
    oracle = norm("LayerNormalization", Float64(), x.astype(np.float32))
    m = Float32()
    y = m.constant(x)
    mean = m.mean(y, (1,), True)
    one_pass = m.concrete((y - mean) * m.rsqrt(m.mean(y * y, (1,), True) - mean * mean + 1e-5))
    errors = [np.abs(found - oracle).max() for found in (norm("LayerNormalization", m, x), one_pass)]
    assert errors[1] > 20 * errors[0]


def test_special_values_pass_without_warnings() -> None:
    m = Rounded(np.float16)
    x = m.constant(np.array([7e4, -1.0, np.nan]))
    assert m.isinf(x).tolist() == [True, False, False] and m.isnan(m.sqrt(x)).tolist() == [False, True, True]
    assert m.isinf(m.exp(m.constant(12.0)))
