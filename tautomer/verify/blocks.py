"""Large arrays a block at a time, so that what is computed on the way stays in the cache.

A block holds 2^15 elements. Elements come in the order of memory, whatever the strides are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Array = np.ndarray[Any, Any]

_ELEMENTS = 1 << 15
_FLAGS: Any = ("external_loop", "buffered", "zerosize_ok")


def blocks(array: Array, read: DTypeLike = np.float64) -> Iterator[Array]:
    """The elements, cast: arrays [n] to look at before the next one is asked for."""
    with np.nditer(
        [array], _FLAGS, [["readonly"]], op_dtypes=[read], casting="unsafe", buffersize=_ELEMENTS
    ) as each:
        for block in each:
            yield np.asarray(block)


def by_blocks(f: Callable[..., Array], *arrays: Array, read: DTypeLike, gives: DTypeLike) -> Array:
    """f of arrays that broadcast, for an f that goes element by element.

    Args:
        f: takes arrays [n], which it must not write to, and gives one.
        arrays: any, at least one.
        read: the dtype in which f takes them.
        gives: the dtype of the result.
    """
    roles: Any = [["readonly"]] * len(arrays) + [["writeonly", "allocate"]]
    types = [read] * len(arrays) + [gives]
    with np.nditer(
        [*arrays, None], _FLAGS, roles, op_dtypes=types, casting="unsafe", buffersize=_ELEMENTS
    ) as each:
        for *parts, result in each:
            result[...] = f(*parts)
        return np.asarray(each.operands[-1])
