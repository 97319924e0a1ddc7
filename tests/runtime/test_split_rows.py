"""Rows that threads share: cut where they should be, every element once, with the numbers of whole rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ort_cases import ARGUMENTS, model, session

from tautomer.codegen.onnxruntime.glue import TASK_BYTES
from tautomer.codegen.onnxruntime.library import OrtKernel, OrtVariant, library_text
from tautomer.errors import MissingToolError
from tautomer.machine import Machine, Variant
from tautomer.patterns.operation import definition_of
from tautomer.runtime import compiler
from tautomer.runtime.onnxruntime.candidates import Wanted
from tautomer.runtime.onnxruntime.kernels import source_of
from tautomer.runtime.session import installed

pytestmark = pytest.mark.skipif(not installed(), reason="onnxruntime is not installed")
SHORTEST = 4 * TASK_BYTES // 4  # elements of a row that is cut
COUNTING = f"""
extern "C" void whole{ARGUMENTS} {{
  for (int64_t i = first * n; i < last * n; ++i) ((float*)out[0])[i] = -1;
}}
extern "C" void counting{ARGUMENTS} {{
  for (int64_t i = first * n; i < last * n; ++i) ((float*)out[0])[i] = 0;
}}
extern "C" void counting_partial(const void*, void* y, int64_t first, int64_t last, double* pair) {{
  for (int64_t i = first; i < last; ++i) ((float*)y)[i] = 1;
  pair[0] = 0;
  pair[1] = double(last - first);
}}
extern "C" void counting_finish(const void*, void* y, int64_t first, int64_t last, const double* own,
                                const double* row) {{
  for (int64_t i = first; i < last; ++i) ((float*)y)[i] *= float(own[1] == last - first ? row[1] : -2);
}}
"""


def built(text: str, flags: tuple[str, ...], folder: Path) -> Path:
    try:
        compiler.compile(text, flags, folder / "kernels.so")
    except MissingToolError:
        pytest.skip("no compiler")
    return folder / "kernels.so"


@pytest.mark.parametrize("threads", [1, 3])
def test_few_long_rows_are_cut_and_every_element_is_in_one_part(tmp_path: Path, threads: int) -> None:
    variant = OrtVariant("counting", COUNTING, Variant("counting", 0, 16), parts=True)
    kernel = OrtKernel("Counting", "whole", "", "FLOAT", row_axes=1, variants=(variant,))
    library = built(library_text([kernel]), (), tmp_path)
    graph = "g (float[N, D] x) => (float[N, D] y) { y = tautomer.Counting (x) }"
    run = session(model(graph, ""), library, intra_op_num_threads=threads)
    for rows, columns, cut in (
        (1, 15, -1),
        (1, 16, 0),
        (1, SHORTEST - 1, 0),
        (1, SHORTEST, SHORTEST),
        (1, SHORTEST + 1, SHORTEST + 1),
        (7, SHORTEST + 63, SHORTEST + 63),
        (8, SHORTEST, 0),
        (2, 700_001, 700_001),  # as many parts as there are at most
    ):
        y = run.run(None, {"x": np.zeros((rows, columns), np.float32)})[0]
        assert set(y.ravel()) == {cut}, (rows, columns)


@pytest.mark.parametrize("in_place", [False, True])
def test_softmax_of_cut_rows(tmp_path: Path, in_place: bool) -> None:
    """Both algorithms that can be cut: the last cache of this machine is one that the longer row fills."""
    softmax = definition_of("Softmax", {})
    assert softmax is not None
    small = Machine("small", ("avx2", "portable"), 2, 2, 1 << 15, 1 << 17, 1 << 19)
    source = source_of([Wanted(softmax, "FLOAT")], "portable", small)
    assert [one.parts for one in source.kernels[0][1].variants] == [True, True]
    library = built(source.text, source.flags, tmp_path)
    graph = "g (float[N, D] x) => (float[N, D] y) { y = tautomer.Softmax (x) }"
    if in_place:
        graph = "g (float[N, D] x) => (float[N, D] y) { a = Neg(x) b = tautomer.Softmax (a) y = Identity(b) }"
    run = session(model(graph, ""), library, intra_op_num_threads=2)
    random = np.random.default_rng(0)
    for columns in (SHORTEST + 5, 70_001):
        x = random.normal(size=(5, columns)).astype(np.float32)
        x[1, : columns // 2] = -np.inf  # whole parts
        x[2, columns // 3] = np.nan
        x[3] = -np.inf
        x[4] += np.linspace(-100, 100, columns, dtype=np.float32)
        y = run.run(None, {"x": -x if in_place else x})[0]
        with np.errstate(invalid="ignore"):
            e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
            right = e / e.sum(-1, keepdims=True)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(right))
        largest = np.nan_to_num(right).max(-1, keepdims=True)
        # 8 units in the last place of the largest, as for whole rows
        assert (np.abs(np.nan_to_num(y - right)) <= 2.0**-20 * largest).all()
