"""Parts of stored tensors, read without keeping the file in memory.

A mapped page counts as memory of the process from its first touch until it is let go. Letting go is always
harmless here: maps are read only, so a page that is touched again is read again.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]
Index = slice | Array
_PIECE = 1 << 20  # elements: enough for numpy to be at full speed, and few enough for a cache
_WORTH_A_CALL = 1 << 12  # bytes


def part(array: Array, axis: int | None, index: Index) -> Array:
    """The positions of an array along an axis, or all of it; a view where that does not keep pages."""
    if axis is None:
        return array
    place = (slice(None),) * axis + (index,)
    if axis == 0 and isinstance(index, slice):
        return array[place]
    if array.size <= _PIECE or axis == 0:
        copy = array[place].copy(order="C")
        let_go(array)
        return copy
    # a few numbers of each row touch the pages of all of it, so rows are let go on the way
    size = len(index) if isinstance(index, np.ndarray) else len(range(*index.indices(array.shape[axis])))
    result = np.empty((*array.shape[:axis], size, *array.shape[axis + 1 :]), array.dtype)
    step = max(1, _PIECE * len(array) // array.size)
    for begin in range(0, len(array), step):
        rows = array[begin : begin + step]
        result[begin : begin + step] = rows[place]
        let_go(rows)
    return result


def part_of(tensor: ir.TensorProtocol, axis: int | None, index: Index) -> Array:
    """The positions of a stored tensor along an axis, or all of it."""
    array = np.asarray(tensor.numpy())  # also checks where an external tensor lies
    if isinstance(tensor, ir.ExternalTensor) and tensor.dtype.bitwidth >= 8 and axis and array.size > _PIECE:
        runs = _runs(tensor, array, axis, index) if isinstance(index, slice) else None
        if runs is not None:
            return runs
    return part(array, axis, index)


def _runs(tensor: ir.ExternalTensor, array: Array, axis: int, index: slice) -> Array | None:
    """A little of each row, read from the file: to map every page for it would take longer."""
    begin, end, step = index.indices(array.shape[axis])
    result = np.empty((*array.shape[:axis], end - begin, *array.shape[axis + 1 :]), array.dtype)
    runs = result.reshape(math.prod(array.shape[:axis]), -1).view(np.uint8)
    if step != 1 or runs.shape[1] < _WORTH_A_CALL:
        return None
    rest = array.itemsize * math.prod(array.shape[axis + 1 :])
    with Path(tensor.path).open("rb", buffering=0) as file:
        for i, run in enumerate(runs):
            file.seek((tensor.offset or 0) + (i * array.shape[axis] + begin) * rest)
            if file.readinto(run.data) != len(run):
                return None
    return result


def pieces(tensor: ir.TensorProtocol) -> Iterator[Array]:
    """All elements of a tensor, some at a time, in order; each piece is let go before the next."""
    array = np.asarray(tensor.numpy()).reshape(-1)
    for begin in range(0, array.size, _PIECE):
        piece = array[begin : begin + _PIECE]
        _advise(piece, "MADV_SEQUENTIAL")
        yield piece
        let_go(piece)


def let_go(array: Array) -> None:
    """Gives the memory of a mapped array back to the system; nothing happens to any other array."""
    _advise(array, "MADV_DONTNEED")


def _advise(array: Array, name: str) -> None:
    """Tells the system about the pages of an array, where it is mapped and the system can be told."""
    advice = getattr(mmap, name, None)
    mapped = _map_behind(array)
    if advice is None or mapped is None or not array.size:
        return
    low, high = np.lib.array_utils.byte_bounds(array)
    start = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    begin = (low - start) // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(advice, begin, min(high - start, len(mapped)) - begin)


def _map_behind(array: Array) -> mmap.mmap | None:
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base if isinstance(base, mmap.mmap) else None
