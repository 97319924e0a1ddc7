"""A kernel of sparse products that is wrong in one thing does not pass its first run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tautomer.codegen.isa import PORTABLE
from tautomer.codegen.sparse.kernel import sparse_kernel
from tautomer.runtime import compiler
from tautomer.runtime.onnxruntime import sparse as ort_sparse

pytestmark = pytest.mark.usefixtures("real_compiler")

WRONG_KERNELS = {
    "negative factors left out": ("mask |= one != V{};", "mask |= one > V{};"),
    "the bias subtracted": (
        "sum += left < LANES ? load_part(bias + i, left)",
        "sum -= left < LANES ? load_part(bias + i, left)",
    ),
    "the last listed neuron left out": (
        "for (; n < last; ++n) add_rows",
        "for (; n + 1 < last; ++n) add_rows",
    ),
    "a gate without its bias": ("(total(sum) + single(bias + places[k]))", "total(sum)"),
    "the tail of a row left out": ("for (; i < outputs; ++i)", "for (; i + 1 < outputs; ++i)"),
    "the last, partial tile left out": (
        "for (int64_t r = 0; r < high; r += TILE_ROWS)",
        "for (int64_t r = 0; r + TILE_ROWS <= high; r += TILE_ROWS)",
    ),
}


@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_does_not_pass_its_first_run(name: str, tmp_path: Path) -> None:
    old, new = WRONG_KERNELS[name]
    kernel = sparse_kernel("float32", PORTABLE)
    assert kernel.text.count(old) == 1
    compiler.compile(kernel.text.replace(old, new), (*kernel.flags, "-O0"), tmp_path / "kernel.so")
    assert ort_sparse.check(tmp_path / "kernel.so", kernel.symbol, "FLOAT") is not None
