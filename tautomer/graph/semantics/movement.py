"""Operators that give a tensor another shape or order: nothing is computed, elements only move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import integer_list, kind_of
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.semantics.table import meaning, older


def moved(m: Mathematics, f: Callable[..., Any], *xs: Any) -> Any:
    """Moves the elements of values, or of concrete arrays."""
    return kind_of(m, *xs).move(f, *xs)


def shape_of(m: Mathematics, x: Any) -> tuple[int, ...]:
    """The shape of a value or a concrete array."""
    return tuple(kind_of(m, x).shape(x))


def numbers(m: Mathematics, call: Call, name: str, given: Any) -> list[int] | None:
    """Integers that are an input in newer opsets and an attribute in older ones."""
    if given is not None:
        return integer_list(m, given)
    named = call.get(name)
    return None if named is None else [int(i) for i in named]


def reshaped(shape: tuple[int, ...], wanted: list[int], allowzero: bool) -> tuple[int, ...]:
    """The shape that Reshape gives: 0 copies a size, -1 takes what remains."""
    sizes = [shape[i] if size == 0 and not allowzero else size for i, size in enumerate(wanted)]
    if -1 in sizes:
        others = int(np.prod([size for size in sizes if size != -1], dtype=np.int64))
        total = int(np.prod(shape, dtype=np.int64))
        if sizes.count(-1) > 1 or others == 0 or total % others:
            raise ValueError(f"{shape} does not reshape to {wanted}")
        sizes[sizes.index(-1)] = total // others
    return tuple(sizes)


def squeezed(shape: tuple[int, ...], axes: list[int] | None) -> tuple[int, ...]:
    """The shape without the named axes of size 1, or without any."""
    named = (
        [i for i, size in enumerate(shape) if size == 1] if axes is None else [a % len(shape) for a in axes]
    )
    if any(shape[axis] != 1 for axis in named):
        raise ValueError(f"axes {axes} of {shape} are not all 1")
    return tuple(size for i, size in enumerate(shape) if i not in named)


def unsqueezed(shape: tuple[int, ...], axes: list[int]) -> tuple[int, ...]:
    """The shape with axes of size 1 put in, counted in the result."""
    rank = len(shape) + len(axes)
    named = {axis % rank for axis in axes}
    if len(named) != len(axes) or any(not -rank <= axis < rank for axis in axes):
        raise ValueError(f"axes {axes} of a result of rank {rank}")
    rest = iter(shape)
    return tuple(1 if i in named else next(rest) for i in range(rank))


def parts(call: Call, size: int, given: list[int] | None) -> list[int]:
    """The sizes that Split cuts an axis into."""
    if given:
        if sum(given) != size or min(given) < 0:
            raise ValueError(f"{given} does not split {size}")
        return given
    count = int(call.get("num_outputs", call.outputs))
    step = -(-size // count)
    return [max(min(step, size - i * step), 0) for i in range(count)]


@meaning("Reshape")
def reshape(m: Mathematics, call: Call, x: Any, shape: Any = None) -> Any:
    """The same elements in row-major order in another shape."""
    wanted = numbers(m, call, "shape", shape) or []
    sizes = reshaped(shape_of(m, x), wanted, bool(call.get("allowzero", 0)))
    return moved(m, lambda a: a.reshape(sizes), x)


@meaning("Flatten")
def flatten(m: Mathematics, call: Call, x: Any) -> Any:
    """A matrix: the axes before `axis` make its rows."""
    shape = shape_of(m, x)
    axis = int(call.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    sizes = (int(np.prod(shape[:axis], dtype=np.int64)), int(np.prod(shape[axis:], dtype=np.int64)))
    return moved(m, lambda a: a.reshape(sizes), x)


@meaning("Squeeze")
def squeeze(m: Mathematics, call: Call, x: Any, axes: Any = None) -> Any:
    """Without axes of size 1."""
    sizes = squeezed(shape_of(m, x), numbers(m, call, "axes", axes))
    return moved(m, lambda a: a.reshape(sizes), x)


@meaning("Unsqueeze")
def unsqueeze(m: Mathematics, call: Call, x: Any, axes: Any = None) -> Any:
    """With axes of size 1 put in."""
    sizes = unsqueezed(shape_of(m, x), numbers(m, call, "axes", axes) or [])
    return moved(m, lambda a: a.reshape(sizes), x)


@meaning("Transpose")
def transpose(m: Mathematics, call: Call, x: Any) -> Any:
    """The axes in another order; reversed when none is given."""
    order = call.get("perm")
    return moved(m, lambda a: np.transpose(a, order), x)


@meaning("Expand")
def expand(m: Mathematics, call: Call, x: Any, shape: Any) -> Any:
    """Broadcast with a shape."""
    sizes = np.broadcast_shapes(shape_of(m, x), tuple(integer_list(m, shape)))
    return moved(m, lambda a: np.broadcast_to(a, sizes), x)


@meaning("Tile")
def tile(m: Mathematics, call: Call, x: Any, repeats: Any) -> Any:
    """Repeated along each axis."""
    if older(call, 6):
        raise Unsupported("Tile", "of opset 1")
    counts = integer_list(m, repeats)
    return moved(m, lambda a: np.tile(a, counts), x)


@meaning("Concat")
def concatenate(m: Mathematics, call: Call, *xs: Any) -> Any:
    """One after the other along an axis."""
    axis = int(call.get("axis", 1))
    return moved(m, lambda *arrays: np.concatenate(arrays, axis), *xs)


@meaning("Split")
def split(m: Mathematics, call: Call, x: Any, sizes: Any = None) -> Any:
    """Cut along an axis."""
    axis = int(call.get("axis", 0))
    pieces, begin = [], 0
    for size in parts(call, shape_of(m, x)[axis], numbers(m, call, "split", sizes)):
        where = np.arange(begin, begin + size)
        pieces.append(moved(m, lambda a, where=where: np.take(a, where, axis), x))
        begin += size
    return tuple(pieces)


def blocks(call: Call, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that x is split into, and their order in the result, where they join again."""
    n, c, h, w = shape
    b, depth_first = int(call.attributes["blocksize"]), call.get("mode", "DCR") == "DCR"
    if call.op_type == "SpaceToDepth":
        return (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
    if depth_first:
        return (n, b, b, c // (b * b), h, w), (0, 3, 4, 1, 5, 2)
    return (n, c // (b * b), b, b, h, w), (0, 1, 4, 2, 5, 3)


@meaning("DepthToSpace")
def depth_to_space(m: Mathematics, call: Call, x: Any) -> Any:
    """Channels become blocks of pixels."""
    split_shape, order = blocks(call, shape_of(m, x))
    (n, c, h, w), b = shape_of(m, x), int(call.attributes["blocksize"])
    sizes = (n, c // (b * b), h * b, w * b)
    return moved(m, lambda a: a.reshape(split_shape).transpose(order).reshape(sizes), x)


@meaning("SpaceToDepth")
def space_to_depth(m: Mathematics, call: Call, x: Any) -> Any:
    """Blocks of pixels become channels."""
    split_shape, order = blocks(call, shape_of(m, x))
    (n, c, h, w), b = shape_of(m, x), int(call.attributes["blocksize"])
    sizes = (n, c * b * b, h // b, w // b)
    return moved(m, lambda a: a.reshape(split_shape).transpose(order).reshape(sizes), x)
