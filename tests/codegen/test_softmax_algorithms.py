"""The algorithms for Softmax and LogSoftmax against the definitions in float64, and a row in parts.

A number may be off by 8 units in the last place of float32, relative to the largest of its row: each
exponential is within 2, its argument x - max is rounded where |x - max| is large only, and then the number is
small; sums of at most 2048 terms are in float32, in lanes, and go on in double precision, so the length of a
row adds nothing. The absolute part is for the roundings of denormal numbers.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_kernels import DEFINITIONS, ISAS, ULP, at_offset, build, expected, kernel, run
from test_kernels import gplusplus as gplusplus

from tautomer.codegen.algorithms import algorithms, has_parts
from tautomer.codegen.kernel import AVX512, PORTABLE, Isa, kernel_for
from tautomer.errors import InputError
from tautomer.patterns.operation import Definition

Floats = NDArray[np.float32]
Libraries = Callable[[Isa], ctypes.CDLL]
ALGORITHMS = [("Softmax", "block"), ("Softmax", "extended"), ("Softmax", "lane"), ("LogSoftmax", "block")]
# the loops of a wide vector on any machine; compiling them well takes long
MACHINES = {**ISAS, "sixteen": Isa("sixteen", 16, ("-Wno-psabi", "-O1", "-fno-schedule-insns"))}
LOWEST = float(np.finfo(np.float32).min)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory, gplusplus: None) -> Libraries:
    """One library for each instruction set, built when first asked for."""
    folder, built = tmp_path_factory.mktemp("softmax"), dict[str, ctypes.CDLL]()

    def library(isa: Isa) -> ctypes.CDLL:
        if isa.name not in built:
            kernels = [kernel(key, "float32", algorithm, isa) for key, algorithm in ALGORITHMS]
            built[isa.name] = build(kernels, folder, isa.name)
        return built[isa.name]

    return library


def assert_close(found: Floats, right: NDArray[np.float64], named: object) -> None:
    np.testing.assert_array_equal(np.isnan(found), np.isnan(right), err_msg=str(named))
    finite = np.isfinite(right)
    np.testing.assert_array_equal(found[~finite], right[~finite], err_msg=str(named))
    scale = np.abs(np.where(finite, right, 0.0)).max(axis=1, keepdims=True)
    error = np.abs(np.where(finite, found, 0.0) - np.where(finite, right, 0.0))
    wrong = ~(error <= 8 * ULP * scale + 4 * 2.0**-149)
    assert not wrong.any(), f"{named}: {found[wrong][:4]} where {right[wrong][:4]} is right"


def rows_of(columns: int, random: np.random.Generator) -> Floats:
    """Every kind of row that an algorithm could take for another."""
    z = random.normal(size=(27, columns))
    ramp = np.linspace(0.0, 1.0, columns)
    some = random.random(columns) < 0.3
    z[1] += 1e4
    z[2] *= 1e4
    z[3] *= 30.0
    z[4, some] = -np.inf
    z[5] = -np.inf
    z[6] = LOWEST
    z[7, columns // 2] = np.nan
    z[8, columns - 1] = np.inf
    z[9, : columns // 2] = -np.inf
    z[9, columns // 2 :] = LOWEST
    z[10] = np.where(some, -1e9 - 4096, -1e9)
    z[11, some] = -1e9
    z[12, some] = LOWEST
    z[13] = 4000.0 * ramp - 2000.0  # a new maximum at each element
    z[14] = 2000.0 - 4000.0 * ramp
    z[15] = np.where(some, -95.0, z[15])  # denormal results
    z[16] = np.where(some, 1.5e38, -1.5e38)
    z[17] *= 1e-40
    # about the ends of the domain of extended exponents, with and without fused operations
    ends = (200.0, -240.0, 350.0, -360.0, 130000.0, -130000.0, 140000.0, -140000.0, 1e9)
    for row, most in enumerate(ends, start=18):
        z[row] = most - np.abs(z[row])
    return z.astype(np.float32)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("key", "algorithm"), ALGORITHMS)
def test_every_length_and_kind_of_row(libraries: Libraries, key: str, algorithm: str, machine: str) -> None:
    isa = MACHINES[machine]
    made, random = kernel(key, "float32", algorithm, isa), np.random.default_rng(17)
    for columns in (1, isa.lanes - 1, isa.lanes, isa.lanes + 1, 1023, 1024, 1025, 5000, 70000):
        x = rows_of(columns, random)
        if columns == 70000:
            x = x[[0, 4, 7, 10, 13]]
        found = run(libraries(isa), made, x)
        right = expected(DEFINITIONS[key], x, ())
        for row in range(len(x)):
            assert_close(found[row : row + 1], right[row : row + 1], (columns, row))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("key", "algorithm"), ALGORITHMS)
def test_any_address_and_in_place(libraries: Libraries, key: str, algorithm: str, machine: str) -> None:
    isa = MACHINES[machine]
    made = kernel(key, "float32", algorithm, isa)
    x = np.random.default_rng(19).normal(size=(3, 203)).astype(np.float32)
    right = expected(DEFINITIONS[key], x, ())
    for at_x, at_y in ((0, 0), (4, 60), (1, 2), (36, 3), (3, 0), (8, None), (0, None)):
        source = at_offset(x, at_x)
        y = source if at_y is None else at_offset(np.zeros_like(x), at_y)
        getattr(libraries(isa), made.symbol)(
            (ctypes.c_void_p * 1)(source.ctypes.data),
            (ctypes.c_void_p * 1)(y.ctypes.data),
            None,
            *map(ctypes.c_int64, (0, *x.shape)),
        )
        assert_close(y.copy(), right, (at_x, at_y))


def combined(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pair of a row from those of its parts."""
    most = pairs[:, 0].max()
    with np.errstate(invalid="ignore"):
        return np.array([most, (pairs[:, 1] * np.exp(pairs[:, 0] - most)).sum()])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("algorithm", ["block", "lane"])
def test_parts_of_a_row_make_the_row(libraries: Libraries, machine: str, algorithm: str) -> None:
    isa = MACHINES[machine]
    assert has_parts("Softmax", algorithm)
    library, made = libraries(isa), kernel("Softmax", "float32", algorithm, isa)
    partial = getattr(library, f"{made.symbol}_partial")
    finish = getattr(library, f"{made.symbol}_finish")
    partial.restype = finish.restype = None

    def whole(x: Floats, cuts: list[int]) -> Floats:
        y, pairs = np.full_like(x, 7.0), np.full((len(cuts) - 1, 2), 7.0)
        at = [*pairwise(cuts)]

        tensors = (ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data))

        def first_pass(part: int) -> None:
            partial(*tensors, *map(ctypes.c_int64, at[part]), pointer(pairs[part]))

        def second_pass(part: int) -> None:
            ends = map(ctypes.c_int64, at[part])
            finish(*tensors, *ends, pointer(pairs[part]), pointer(pair))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(first_pass, range(len(at))))
            pair = combined(pairs)
            list(pool.map(second_pass, reversed(range(len(at)))))
        assert (y[: cuts[0]] == 7.0).all() and (y[cuts[-1] :] == 7.0).all()
        return y[cuts[0] : cuts[-1]]

    for columns, inner in ((1, []), (1025, [1, 1, 17, 1024]), (70000, [2048, 30001])):
        rows = rows_of(columns, np.random.default_rng(23))[: None if columns < 70000 else 5]
        for row, x in enumerate(rows):
            found = whole(x, [0, *inner, columns])[None, :]
            once = run(library, made, x[None, :]).astype(np.float64)
            assert_close(found, once, (columns, row))
            assert_close(found, expected(DEFINITIONS["Softmax"], x[None, :], ()), (columns, row))
    # what is before the first part and after the last is neither read nor written
    x = np.concatenate([[np.nan], rows[0][:300], [np.nan] * 2]).astype(np.float32)
    assert_close(
        whole(x, [1, 130, 301])[None, :], expected(DEFINITIONS["Softmax"], x[None, 1:301], ()), "inner"
    )


def pointer(values: NDArray[np.float64]) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


@pytest.mark.parametrize("machine", MACHINES)
def test_rows_outside_the_domain_of_extended_exponents_are_done_by_blocks(
    libraries: Libraries, machine: str
) -> None:
    isa = MACHINES[machine]
    x = np.random.default_rng(29).normal(size=(4, 3000)).astype(np.float32)
    x[1] = np.where(x[1] > 0, -1e9, -1e9 - 4096)
    x[3] = -np.inf
    by_blocks, extended = (
        run(libraries(isa), kernel("Softmax", "float32", name, isa), x) for name in ("block", "extended")
    )
    np.testing.assert_array_equal(extended[[1, 3]], by_blocks[[1, 3]])
    assert (extended[[0, 2]] != by_blocks[[0, 2]]).any(), "the other rows are not done by blocks"


def test_a_million_elements_keep_their_digits(libraries: Libraries) -> None:
    """To 3e-6 of each number: the largest |x - max| is below 16, half a unit of which is 4.8e-7."""
    isa = list(ISAS.values())[-1]
    x = np.random.default_rng(11).normal(size=(1, 1_100_000)).astype(np.float32)
    right = expected(DEFINITIONS["Softmax"], x, ())
    for name in ("extended", "lane"):
        found = run(libraries(isa), kernel("Softmax", "float32", name, isa), x)
        np.testing.assert_allclose(found, right, rtol=3e-6)


def test_the_texts_for_avx512_compile_anywhere(tmp_path: Path, gplusplus: None) -> None:
    made = [kernel(key, "float32", algorithm, AVX512) for key, algorithm in ALGORITHMS]
    source = tmp_path / "all.cpp"
    source.write_text("".join(one.text for one in made))
    command = ["g++", *made[0].flags, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)]
    subprocess.run(command, check=True)


def test_what_can_be_asked_for() -> None:
    assert set(algorithms("Softmax")) == {"stream", "block", "extended", "lane"}
    assert set(algorithms("LogSoftmax")) == {"stream", "block"}
    assert algorithms("Softmax", "bfloat16") == ("stream",)
    for name in ("extended", "lane"):
        with pytest.raises(InputError, match=f"no algorithm {name}"):
            kernel("Softmax", "float16", name, PORTABLE)


@pytest.mark.parametrize("algorithm", ["block", "extended", "lane"])
def test_a_nan_with_digits_fills_its_row(libraries: Libraries, algorithm: str) -> None:
    """Of either sign, with digits where an exponent is read: arithmetic on bits must not make it a number."""
    isa = list(ISAS.values())[-1]
    for bits in (0x7FC001FF, 0xFFC00001, 0x7F800001, 0xFFFFFFFF):
        x = np.random.default_rng(31).normal(size=(3, 2500)).astype(np.float32)
        x[1, 1234] = np.array(bits, np.uint32).view(np.float32)
        y = run(libraries(isa), kernel("Softmax", "float32", algorithm, isa), x)
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()


def test_a_maximum_looks_for_nan_unless_a_sum_shows_it() -> None:
    isa = list(ISAS.values())[-1]
    assert "MaxOrNan" not in kernel("Softmax", "float32", "", isa).text
    assert "MaxOrNan" not in kernel("LogSoftmax", "float32", "", isa).text
    below = Definition("Below", lambda m, x: x - m.max(x), rows="axis")
    assert "MaxOrNan g0;" in kernel_for(below, isa=isa).text
    hidden = Definition("Hidden", lambda m, x: m.maximum(m.sum(m.exp(x - m.max(x))), 0.0) * x, rows="axis")
    assert "MaxOrNan g0;" in kernel_for(hidden, isa=isa).text
