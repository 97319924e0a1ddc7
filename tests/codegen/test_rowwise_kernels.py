"""Kernels of rowwise operators: every way in which an operand goes with x, against the formula in float64.

A function of one number is within a few units in the last place of float32, a number of a row relative to the
largest of the row; a result of narrow type is rounded once more.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tautomer.codegen.kernel import AVX2, PORTABLE, Isa, Kernel, kernel_for
from tautomer.patterns.operation import Definition
from tautomer.patterns.rowwise.places import places
from tautomer.patterns.rowwise.program import Body, Layout
from tautomer.patterns.rowwise.reading import definition_in

Array = NDArray[np.generic]
NUMPY_TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
ROUNDING = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
ULP = 2.0**-23


def mixed(kinds: tuple[str, ...], form: str) -> Definition:
    """(x - mean(x)) * operand + ... with every operand in another place, and a number; or its largest."""
    grouped = form == "groups"
    body = Body(18, Layout(grouped=grouped), kinds)
    b, (x, *operands) = body.builder, body.values
    mean = b.reduce("ReduceMean", x, body.layout.reduced)
    y = b.op("Sub", x, mean)
    for index, operand in enumerate(operands):
        y = b.op(("Mul", "Add", "Sub")[index % 3], y, operand)
    y = b.op("Mul", y, b.constant(np.asarray(0.75, np.float32)))
    attributes = {"groups": 3, "segments": 2} if grouped else {"axis": -1}
    results = [] if form == "per row" else [y]
    per_row = [b.reduce("ReduceMax", y, body.layout.reduced)] if form in ("per row", "both") else []
    return definition_in(body.finish(*results, *per_row, per_row=len(per_row)), attributes)


def wanted(x: Array, operands: list[Array], form: str) -> list[NDArray[np.float64]]:
    """The same in numpy; operands have shapes that broadcast, and the last axis is a row."""
    y = x.astype(np.float64)
    y = y - y.mean(axis=(-2, -1) if y.ndim == 4 else -1, keepdims=True)
    for index, operand in enumerate(operands):
        other = operand.astype(np.float64)
        y = (y * other, y + other, y - other)[index % 3]
    y *= 0.75
    largest = y.max(-1, keepdims=True)
    return {"per row": [largest], "both": [y, largest]}.get(form, [y])


PLAIN = (
    ("full", "row", "column"),
    ("column", "number", "full"),
    ("row", "column", "number"),
    ("block", "full", "column"),
    ("number",),
)
GROUPED = (
    ("segment", "segment", "column"),
    ("column", "segment", "full"),
    ("full", "column"),
    ("full", "segment", "number"),
    ("column", "full"),
)


def shape_of(kind: str, shape: tuple[int, ...], first: bool) -> tuple[int, ...]:
    """The shape of an operand beside x as the formula sees it; the first has no number for each row."""
    if kind == "number":
        return ()
    if kind == "full":
        return shape
    if len(shape) == 4:
        return {"segment": (3, 2, 1), "column": (3, 1, 1) if first else (shape[0], 3, 1, 1)}[kind]
    if kind == "column":
        return (shape[0], 1, 1) if first else (*shape[:-1], 1)
    return shape[-1:] if kind == "row" else (shape[0], 1, shape[-1])


def operands_of(kinds: tuple[str, ...], shape: tuple[int, ...], random: np.random.Generator) -> list[Array]:
    """Operands of these kinds beside x."""
    shapes = (shape_of(kind, shape, index == 0) for index, kind in enumerate(kinds))
    return [np.asarray(random.standard_normal(one)) for one in shapes]


def isas() -> list[Isa]:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return [PORTABLE]
    return [PORTABLE, *([AVX2] if {"avx2", "fma", "f16c"} <= flags else [])]


CASES = [(kinds, "rows", "float32", "") for kinds in PLAIN]
CASES += [(kinds, "groups", "float32", "") for kinds in GROUPED]
CASES += [(PLAIN[0], "rows", dtype, "") for dtype in ("float16", "bfloat16")]
CASES += [(GROUPED[0], "groups", "float16", ""), (GROUPED[0], "groups", "float32", "stream")]
CASES += [(PLAIN[0], "per row", dtype, "") for dtype in ("float32", "bfloat16")]
CASES += [(PLAIN[3], "both", "float32", algorithm) for algorithm in ("", "stream")]


@pytest.fixture(scope="module", params=isas(), ids=lambda isa: isa.name)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple[Callable[..., None], Kernel]]:
    """The functions of all cases, compiled as one text."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    isa: Isa = request.param
    kernels = [
        kernel_for(mixed(kinds, form), dtype=dtype, isa=isa, algorithm=algorithm)
        for kinds, form, dtype, algorithm in CASES
    ]
    folder = tmp_path_factory.mktemp("rowwise")
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text("".join({one.symbol: one.text for one in kernels}.values()))
    command = ["g++", *kernels[0].flags, "-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized"]
    subprocess.run([*command, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    return lambda case: (getattr(loaded, kernels[case].symbol), kernels[case])


# one element, around a vector, around four vectors, around a block that is summed in float32
COLUMNS = (1, 7, 8, 9, 31, 32, 33, 100, 2047, 2048, 2049)
LENGTHS = (1, 3, 8, 9, 49, 1025)


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: "-".join(map(str, CASES[case])))
def test_a_kernel_computes_its_body(
    built: Callable[[int], tuple[Callable[..., None], Kernel]], case: int
) -> None:
    function, kernel = built(case)
    kinds, form, dtype, _ = CASES[case]
    grouped = form == "groups"
    random = np.random.default_rng(case)
    for size in LENGTHS if grouped else COLUMNS:
        shape = (2, 3, 2, size) if grouped else (2, 3, size)
        made = (random.standard_normal(shape), *operands_of(kinds, shape, random))
        x, *operands = (one.astype(NUMPY_TYPES[dtype]) for one in made)
        right = wanted(x, operands, form)
        found = [np.full(one.shape, np.nan, NUMPY_TYPES[dtype]) for one in right]
        rows, columns = 6, 2 * size if grouped else size
        where = places(kinds, [one.shape for one in operands], shape, 2 if grouped else 1)
        inputs = [np.ascontiguousarray(one) for one in (x, *operands)]
        parameters = {"groups": 3.0, "segments": 2.0}
        for first, last in ((0, 2), (2, rows)):  # rows are given out to threads in pieces
            function(
                (ctypes.c_void_p * len(inputs))(*(one.ctypes.data for one in inputs)),
                (ctypes.c_void_p * len(found))(*(one.ctypes.data for one in found)),
                (ctypes.c_double * 8)(*(parameters[name] for name in kernel.parameters), *where),
                ctypes.c_int64(first),
                ctypes.c_int64(last),
                ctypes.c_int64(columns),
            )
        for y, exact in zip(found, right, strict=True):
            scale = np.abs(exact).max(initial=1.0)
            allowed = 16 * ULP * scale + ROUNDING[dtype] * np.abs(exact) + 2.0**-24
            error = np.abs(y.astype(np.float64) - exact)
            assert (error <= allowed).all(), f"{size} columns: off by {(error / allowed).max()}"
