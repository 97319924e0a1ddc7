"""Sums of squares of differences to a mean, in the pass that takes the mean.

The tolerance: where one square is larger than all others together, a lane adds at most 128 of the others to
it in float32 (a block of 2048 in 16 lanes or more), each addition half a unit off, and the root halves that.
What the sums lose when they are taken from a pivot far away is thousands of times more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_kernels import DEFINITIONS, ISAS, ULP, build, expected, kernel, run
from test_kernels import gplusplus as gplusplus

from tautomer.codegen.centred_squares import centred_squares
from tautomer.codegen.isa import Isa
from tautomer.codegen.schedule import schedule
from tautomer.codegen.trace import trace
from tautomer.patterns.operation import Definition

Floats = NDArray[np.float32]
NORM = DEFINITIONS["LayerNormalization"]


@pytest.fixture(scope="module")
def layer_norm(tmp_path_factory: pytest.TempPathFactory, gplusplus: None) -> Callable[[Isa, Floats], Floats]:
    """Runs the kernel of LayerNormalization with a gain of 1 and no bias."""
    folder, built = tmp_path_factory.mktemp("centred"), dict[str, ctypes.CDLL]()

    def compute(isa: Isa, x: Floats) -> Floats:
        made = kernel(NORM.key, "float32", "", isa)
        if isa.name not in built:
            built[isa.name] = build([made], Path(folder), isa.name)
        return run(built[isa.name], made, x, *_operands(x))

    return compute


def _operands(x: Floats) -> tuple[Floats, Floats]:
    return np.ones(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)


def _assert_right(found: Floats, x: Floats) -> None:
    right = expected(NORM, x, _operands(x))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(right))
    error = np.nan_to_num(np.abs(found - right)).max(axis=1)
    assert (error <= 32 * ULP * np.nan_to_num(np.abs(right)).max(axis=1) + 1e-30).all()


def test_layer_normalization_reads_its_row_twice() -> None:
    plan = schedule(trace(NORM))
    (variance,) = plan.squares
    assert [len(step) for step in plan.passes] == [1, 1] and plan.passes[1] == (variance,)
    text = kernel(NORM.key, "float32", "", ISAS["portable"]).text
    before, after = text.split("if (__builtin_expect(!(")
    assert before.count("i + 4 * LANES <= to") == 1, "one pass takes both sums"
    assert after.count("i + 4 * LANES <= to") == 1, "the definition's pass, for rows that need it"


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.mean((x - m.mean(x)) * (x - m.max(x))) * x,  # two different differences
        lambda m, x: m.mean((x - m.max(x)) * (x - m.max(x))) * (x - m.mean(x)),  # to what is no mean
        lambda m, x: m.mean((x - m.mean(x * x)) * (x - m.mean(x * x))) * x,  # to the mean of something else
        lambda m, x: m.max((x - m.mean(x)) * (x - m.mean(x))) * (x - m.mean(x)),  # no sum
    ],
)
def test_what_only_looks_like_a_variance_has_its_own_pass(function: Callable[..., object]) -> None:
    plan = schedule(trace(Definition("Odd", function, "trailing")))
    assert centred_squares(plan.passes, plan.wide) == {}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("columns", [1, 7, 8, 9, 31, 33, 2047, 2048, 2049])
def test_rows_whose_first_elements_are_far_from_the_mean(
    layer_norm: Callable[[Isa, Floats], Floats], isa: str, columns: int
) -> None:
    """The pivot is there, so that the sums from it lose what the result consists of."""
    random = np.random.default_rng(columns)
    x = random.normal(size=(7, columns)).astype(np.float32)
    x[0, :8] += 1e4  # an outlier in every lane
    x[1, 0] -= 1e6  # in one lane
    x[2] = 3.0  # no spread at all
    x[3] = x[3] * np.float32(1e-3) + 1e5  # nearly none
    x[4, :8] += 1.0  # a pivot as far away as the spread: on the edge of the two ways
    x[5, columns // 2] = np.nan
    x[6] = random.normal(size=columns) * 1e-25  # its squares are not numbers of float32
    _assert_right(layer_norm(ISAS[isa], x), x)


@settings(max_examples=60, deadline=None)
@given(
    columns=st.integers(1, 80),
    offset=st.floats(-1e5, 1e5),
    outlier=st.floats(-1e6, 1e6),
    place=st.integers(0, 79),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_offset_and_any_outlier(
    layer_norm: Callable[[Isa, Floats], Floats],
    columns: int,
    offset: float,
    outlier: float,
    place: int,
    seed: int,
) -> None:
    x = (np.random.default_rng(seed).normal(size=(1, columns)) + offset).astype(np.float32)
    x[0, place % columns] += np.float32(outlier)
    _assert_right(layer_norm(list(ISAS.values())[-1], x), x)
