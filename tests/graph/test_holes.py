"""Zeros that are written as holes read as zeros, and nothing else becomes one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from benchmarks.sparse_model import Sizes, write_sparse
from tautomer.graph.holes import copy_stored, write_array
from tautomer.graph.reader import read_model
from tautomer.graph.writer import write_model

MIDDLE = Sizes(layers=1, width=512, hidden=4096, tokens=2000, positions=64, heads=4)


def _external(path: Path, offset: int, length: int) -> ir.ExternalTensor:
    shape = ir.Shape([length])
    return ir.ExternalTensor(
        path.name, offset, length, ir.DataType.UINT8, shape=shape, name="w", base_dir=path.parent
    )


@pytest.mark.parametrize("begin", [0, 3, 70_000, 300_000, 999_000])
@pytest.mark.parametrize("length", [1, 5000, 65_536, 250_000, 1_000_000])
def test_a_part_of_a_sparse_file_is_copied_byte_for_byte(tmp_path: Path, begin: int, length: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        for at in (0, 350_000, 352_000, 1_200_000):
            file.seek(at)
            file.write(np.arange(1, 7000, dtype=np.uint16).tobytes())
        file.truncate(2_000_000)
    for prefix in (0, 100):
        with target.open("w+b") as file:
            file.write(b"x" * prefix)
            copy_stored(_external(source, begin, length), file)
            assert file.tell() == prefix + length
        assert target.read_bytes() == b"x" * prefix + source.read_bytes()[begin : begin + length]


def test_arrays_are_written_as_they_are() -> None:
    sizes = (0, 1, 20_000, 5_000_000)
    for array in (np.full(size, number, np.float32) for size in sizes for number in (0.0, -0.0, 1.0)):
        array[-1:] = 2.0 if array.size == 20_000 else array[:1]
        file = io.BytesIO(b"xxx")
        file.seek(3)
        write_array(array, file)
        assert file.getvalue() == b"xxx" + array.tobytes()


def test_a_sparse_model_stays_sparse(tmp_path: Path) -> None:
    write_sparse(tmp_path / "in.onnx", MIDDLE)
    write_model(read_model(tmp_path / "in.onnx"), tmp_path / "out.onnx")
    before, after = ((tmp_path / f"{name}.onnx.data").stat() for name in ("in", "out"))
    assert after.st_size >= MIDDLE.bytes
    if before.st_blocks * 512 < before.st_size // 2:  # the file system knows holes
        assert after.st_blocks * 512 < after.st_size // 2
    one, other = (ir.load(tmp_path / f"{name}.onnx").graph.initializers for name in ("in", "out"))
    assert list(one) == list(other)
    for name in one:
        assert one[name].const_value.tobytes() == other[name].const_value.tobytes(), name
