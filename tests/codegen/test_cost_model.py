"""Which algorithm is chosen for a size: just below, at and just above every threshold."""

from __future__ import annotations

import pytest

from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.cost_model import algorithm_for, chosen, thresholds
from tautomer.machine import DESCRIBED, Machine, Variant
from tautomer.patterns.operation import definitions

DEFINITIONS = {definition.key: definition for definition in definitions()}
TYPES = ("float32", "float16", "bfloat16")
NORMS = [key for key, definition in DEFINITIONS.items() if definition.rows == "trailing"]


def small(isa: str = "avx2", l2: int = 512, l3: int = 4096) -> Machine:
    """A processor with caches of a few elements."""
    return Machine("small", tuple(dict.fromkeys((isa, "portable"))), 1, 1, 64, l2, l3)


@pytest.mark.parametrize("key", [*NORMS, "LogSoftmax"])
@pytest.mark.parametrize("isa", ["avx512", "avx2"])
def test_what_is_larger_than_the_last_cache_is_streamed(key: str, isa: str) -> None:
    for rows, algorithm in ((31, ""), (32, ""), (33, "stream")):  # 128 bytes of x and y in each
        assert algorithm_for(key, "float32", rows, 16, small(isa)) == algorithm
        assert algorithm_for(key, "float16", rows, 32, small(isa)) == algorithm
    assert algorithm_for(key, "float32", 1, 512, small(isa)) == ""
    assert algorithm_for(key, "float32", 1, 528, small(isa)) == "stream"


@pytest.mark.parametrize(("dtype", "long"), [("float32", 4096), ("float16", 8192), ("bfloat16", 8192)])
def test_rows_that_end_inside_a_line_are_streamed_when_they_are_long(dtype: str, long: int) -> None:
    for columns, algorithm in ((15, ""), (17, ""), (long - 1, ""), (long, "stream"), (long + 1, "stream")):
        assert algorithm_for("RMSNormalization", dtype, 1000, columns, small()) == algorithm


def test_nothing_is_streamed_over_what_was_just_read() -> None:
    variants = thresholds("RMSNormalization", "float32", small())
    assert chosen(variants, 4097, 64) == "stream"
    assert chosen(variants, 4097, 64, in_place=True) == ""
    variants = thresholds("Softmax", "float32", small())
    assert chosen(variants, 1 << 20, 1 << 17, in_place=True) == "block"


@pytest.mark.parametrize(("isa", "long"), [("avx512", 64), ("avx2", 16), ("portable", 16)])
def test_exponentials_that_leave_the_second_cache_are_computed_by_blocks(isa: str, long: int) -> None:
    for columns, algorithm in ((long - 1, ""), (long, "block"), (long + 1, "block")):
        for rows in (1, 10_000):
            assert algorithm_for("Softmax", "float32", rows, columns, small(isa)) == algorithm


@pytest.mark.parametrize("isa", ["avx512", "avx2"])
def test_rows_whose_result_fills_the_last_cache_are_read_twice(isa: str) -> None:
    for columns, algorithm in ((511, "block"), (512, "block"), (513, "lane")):
        assert algorithm_for("Softmax", "float32", 1, columns, small(isa)) == algorithm
    assert algorithm_for("Softmax", "float32", 10_000, 511, small(isa)) == "block"
    assert chosen(thresholds("Softmax", "float32", small(isa)), 1 << 20, 1 << 17, in_place=True) == "block"
    assert algorithm_for("Softmax", "float32", 1, 1 << 20, small("portable")) == "block"


def test_a_threshold_between_two_elements() -> None:
    assert algorithm_for("Softmax", "float32", 3, 17, small("avx512", l2=129)) == "block"  # 68 bytes of 64.5
    assert algorithm_for("Softmax", "float32", 3, 15, small("avx512", l2=129)) == ""


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("machine", [small("avx512"), *DESCRIBED.values()], ids=lambda machine: machine.name)
def test_softmax_is_never_streamed_and_neither_is_what_gives_no_row(machine: Machine, dtype: str) -> None:
    for key in ("Softmax", "SoftmaxPlusOne", "ReduceLogSumExp", "Relu", "SwiGLU"):
        assert "stream" not in [one.algorithm for one in thresholds(key, dtype, machine)]
        assert algorithm_for(key, dtype, 1 << 20, 1024, machine) in ("", "block", "lane")


@pytest.mark.parametrize("machine", DESCRIBED.values(), ids=DESCRIBED)
def test_every_algorithm_that_is_chosen_exists(machine: Machine) -> None:
    for key in DEFINITIONS:
        for dtype in TYPES:
            for one in thresholds(key, dtype, machine):
                assert one.algorithm in algorithms(key, dtype)
                assert one.least_columns >= 1
                assert one.multiple >= 1
                assert machine.isas[0] != "portable" or one.algorithm != "stream"


def test_the_first_threshold_that_is_reached_decides() -> None:
    variants = (Variant("a", 100, 8, multiple=4), Variant("b", 50, 1, in_place=False), Variant("c", 10, 1))
    assert [chosen(variants, total, 8) for total in (9, 10, 50, 100)] == ["", "c", "b", "a"]
    assert [chosen(variants, 100, columns) for columns in (7, 8, 9, 12)] == ["b", "a", "b", "a"]
    assert chosen(variants, 99, 8, in_place=True) == "c"
    assert chosen((), 1 << 40, 1 << 20) == ""
