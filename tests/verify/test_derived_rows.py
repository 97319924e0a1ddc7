"""Rows of a constant that a rewrite made are those of the whole, from rows of its source alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tautomer.graph.call import Call
from tautomer.graph.expression import Applied, Expression, Literal, Step, Stored
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.algebra import _Constants
from tautomer.verify.ball import Ball

TABLE = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def _expression(axis: int) -> Expression:
    steps: tuple[Step, ...] = (
        Stored("table"),
        Literal(np.array([axis], np.int64)),
        Applied(Call("ReduceMean", version=18), (0, 1)),
        Applied(Call("Sub", version=18), (0, 2)),
    )
    return Expression(steps)


def _constants(m: Any, seed: int | None, axis: int) -> tuple[_Constants, ir.Value]:
    made = ir.Value(name="made", const_value=ir.tensor(np.zeros_like(TABLE), name="made"))
    sources = {"table": ir.tensor(TABLE, name="table")}
    return _Constants(m, seed, sources, {"made": _expression(axis)}, frozenset()), made


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("positions", [[5], [0, 39], [7, 7, 3]])
def test_rows_are_those_of_the_whole(seed: int | None, positions: list[int]) -> None:
    constants, made = _constants(Float64(), seed, -1)
    found = constants.derived_rows(made, np.array(positions))
    np.testing.assert_array_equal(found, constants.derived(made)[positions])


@pytest.mark.parametrize("seed", [None, 3])
def test_rows_of_balls_are_those_of_the_whole(seed: int | None) -> None:
    m = Ball(128, read=True)
    constants, made = _constants(m, seed, 1)
    found, whole = constants.derived_rows(made, np.array([4])), constants.derived(made)
    np.testing.assert_array_equal(m.concrete(found), m.concrete(whole)[[4]])


def test_no_rows_where_they_need_the_whole() -> None:
    constants, made = _constants(Float64(), None, 0)
    assert constants.derived_rows(made, np.array([4])) is None


def test_no_rows_where_the_source_is_missing() -> None:
    constants, made = _constants(Float64(), None, -1)
    missing = _Constants(constants.m, None, {}, constants.provenance, frozenset())
    assert missing.derived_rows(made, np.array([4])) is None
