"""Parts of tensors in files are those of the array, however they are read, and no page is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tautomer.graph.mapped import let_go, part_of, pieces

SHAPE = (64, 600, 32)


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def stored(whole: np.ndarray, tmp_path: Path) -> ir.ExternalTensor:
    (tmp_path / "w.bin").write_bytes(b"x" * 100 + whole.tobytes())
    shape = ir.Shape(SHAPE)
    return ir.ExternalTensor(
        "w.bin", 100, whole.nbytes, ir.DataType.FLOAT, shape=shape, name="w", base_dir=tmp_path
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("index", [slice(0, 2), slice(3, 31), slice(20, None), slice(1, 30, 3), [5, 0, 5]])
def test_parts(whole: np.ndarray, stored: ir.ExternalTensor, axis: int, index: Any) -> None:
    where = np.array(index) if isinstance(index, list) else index
    for tensor in (stored, ir.tensor(whole)):
        np.testing.assert_array_equal(part_of(tensor, axis, where), whole[(slice(None),) * axis + (index,)])


def test_all_of_it(whole: np.ndarray, stored: ir.ExternalTensor) -> None:
    np.testing.assert_array_equal(part_of(stored, None, slice(None)), whole)
    np.testing.assert_array_equal(
        np.concatenate([piece.copy() for piece in pieces(stored)]), whole.reshape(-1)
    )


def test_what_was_let_go_is_still_there(whole: np.ndarray, stored: ir.ExternalTensor) -> None:
    array = stored.numpy()
    let_go(array)
    let_go(array[3:5, 7])
    np.testing.assert_array_equal(array, whole)
    let_go(np.ones(5))
    let_go(np.empty(0))
