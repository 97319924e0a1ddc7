"""What a kernel of attention is told of a call: numbers, sizes and steps, in the order that it reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tautomer.errors import InternalError

GIVEN = {"scale": 1.0, "bias": 0.0, "softcap": 1.0, "window": 0.0, "free": 0.0}
SIZES = ("batch", "heads", "kv_heads", "rows", "columns", "depth", "width", "block", "splits")
STEPS = ("q", "k", "v", "y", "mask")


def numbers_of(
    arrays: Mapping[str, NDArray[Any]], *, block: int, splits: int = 1, **given: float
) -> list[float]:
    """The parameters of a call.

    Args:
        arrays: q, k, v, y and maybe mask, each with four axes; the mask may have axes of one element.
        block: rows of a unit.
        splits: parts that the keys are cut into.
        given: some of GIVEN.

    Raises:
        InternalError: a number that there is not.
    """
    if not given.keys() <= GIVEN.keys():
        raise InternalError(f"attention takes no {', '.join(given.keys() - GIVEN.keys())}")
    (batch, heads, rows, depth), (_, kv_heads, columns, width) = arrays["q"].shape, arrays["v"].shape
    sizes = (batch, heads, kv_heads, rows, columns, depth, width, block, splits)
    steps = (_steps_of(arrays[name]) if name in arrays else (0,) * 4 for name in STEPS)
    return [*(GIVEN | given).values(), *map(float, sizes), *(float(one) for four in steps for one in four)]


def _steps_of(array: NDArray[Any]) -> tuple[int, ...]:
    """Elements from one index to the next, of each axis; 0 where there is only one."""
    return tuple(
        0 if size == 1 else stride // array.itemsize
        for size, stride in zip(array.shape, array.strides, strict=True)
    )


def units_of(q: tuple[int, ...], kv_heads: int, block: int, splits: int = 1) -> int:
    """How many units of work a call has; q is a shape."""
    batch, heads, rows, _ = q
    return batch * kv_heads * -(-rows * (heads // kv_heads) // block) * splits
