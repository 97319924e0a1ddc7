"""Writing values to a new file, where long stretches of zeros become holes: they take no room on the disk.

A sparse file stays sparse when it is copied, and what is computed from zeros is mostly zeros, too. To every
reader the file is the same.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from tautomer.graph.mapped import Array, let_go

_STRETCH = 1 << 24  # bytes looked at at once; also what of a mapped weight is in memory at once
_WORTH_A_HOLE = 1 << 16


def write_array(array: Array, file: BinaryIO) -> None:
    """Writes the elements, little end first."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    content = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
    for begin in range(0, content.size, _STRETCH):
        stretch = content[begin : begin + _STRETCH]
        if stretch.size >= _WORTH_A_HOLE and not stretch.any():
            _skip(stretch.size, file)
        else:
            file.write(stretch.data)
        let_go(stretch)


def copy_stored(tensor: ir.ExternalTensor, file: BinaryIO) -> None:
    """Copies the bytes of a tensor from its file, inside the kernel where it can."""
    begin = tensor.offset or 0
    end = begin + tensor.nbytes
    at = begin
    for low, high in _written(Path(tensor.path), begin, end):
        if low - at >= _WORTH_A_HOLE:
            _skip(low - at, file)
        else:
            low = at
        ir.ExternalTensor(
            tensor.location,
            low,
            high - low,
            ir.DataType.UINT8,
            shape=ir.Shape([high - low]),
            name=tensor.name or "",
            base_dir=tensor.base_dir,
        ).tofile(file)
        at = high
    if at < end:
        _skip(end - at, file)


def _skip(count: int, file: BinaryIO) -> None:
    """Makes a hole; its last byte is written, so that the file is as long as it should be."""
    file.seek(count - 1, os.SEEK_CUR)
    file.write(b"\0")


def _written(path: Path, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The stretches of a part of a file that are not holes; all of it where the system cannot tell."""
    if not hasattr(os, "SEEK_DATA"):
        yield begin, end
        return
    with path.open("rb") as file:
        while begin < end:
            try:
                low = os.lseek(file.fileno(), begin, os.SEEK_DATA)
                high = min(os.lseek(file.fileno(), low, os.SEEK_HOLE), end)
            except OSError as error:
                if error.errno != errno.ENXIO:  # that is: nothing but a hole up to the end of the file
                    yield begin, end
                return
            if low >= end:
                return
            yield low, high
            begin = high
