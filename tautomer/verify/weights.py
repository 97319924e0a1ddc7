"""Random weights: the rule itself, where the stored numbers would hide a mistake.

A dropped bias shows nothing while the bias is 0, a dropped gain nothing while it is 1. So both graphs are
compared once more with every weight replaced by a random function of its stored value, element by element:
equal tensors stay equal however they are named, transposed, cut or copied, and no number is special.

Scalars keep their values: they are the literals of the formulas (epsilon, 1/2, sqrt 2).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.mapped import let_go
from tautomer.verify.blocks import blocks, by_blocks
from tautomer.verify.fingerprint import Words, digest, mixed

MASKING = -1e4  # what adds less than this to a score is a mask, not a weight
_SCALE = 2.0**-31
_PIECE = 1 << 20  # elements looked at at once


def is_weight(array: np.ndarray[Any, Any]) -> bool:
    """Whether a constant is a weight: several floats, neither a mask nor a table of zeros and ones."""
    if array.size < 2 or array.dtype.kind in "iubUSO":
        return False
    flat, table = array.reshape(-1), array.ndim > 1
    zeros = ones = False
    for begin in range(0, flat.size, _PIECE):
        piece = flat[begin : begin + _PIECE]
        values = piece.astype(np.float64)
        let_go(piece)
        if not np.all(np.isfinite(values)) or np.any(values < MASKING):
            return False
        if table:
            zero, one = values == 0.0, values == 1.0
            table = bool(np.all(zero | one))
            zeros, ones = zeros or bool(zero.any()), ones or bool(one.any())
    return not (table and zeros and ones)


def randomised(array: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A random number in (-1, 1) for each distinct value: the same for the same value and seed."""
    word = np.uint64((seed * 0x9E3779B97F4A7C15) & (2**64 - 1))

    def of(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        hashed = mixed(_words(numbers) ^ word)
        signed = (hashed >> np.uint64(33)).astype(np.float64) * 2.0 - 2.0**31
        return (signed + 1.0) * _SCALE

    return by_blocks(of, array, read=np.float64, gives=np.float64)


def _words(numbers: np.ndarray[Any, Any]) -> Words:
    return (numbers + 0.0).view(np.uint64)  # + 0.0: -0 is 0


def float_constants(model: ir.Model) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The weights of all graphs of a model, one at a time."""
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None or not tensor.dtype.is_floating_point():
                continue
            array = np.asarray(tensor.numpy())
            if is_weight(array):
                yield name, array


def strangers(
    original: ir.Model, other: ir.Model, made: Container[str] = (), used: Container[str] = ()
) -> list[str]:
    """Weights of one model whose elements are those of no weight of the other, in any order or shape.

    Args:
        original: one model.
        other: the other.
        made: names of the other's constants that stand for an expression of the original's.
        used: names of the original's constants that such expressions read.
    """
    first, second = (
        {name: content(array) for name, array in float_constants(model)} for model in (original, other)
    )
    here, there = set(first.values()), set(second.values())
    new = [name for name, held in second.items() if name not in made and held not in here]
    return new + [name for name, held in first.items() if name not in used and held not in there]


def content(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Equal for tensors of the same elements, in any order and shape."""
    total = sum(digest([_words(block)])[1] for block in blocks(array))
    let_go(array)
    return int(array.size), total % 2**64


def weights_of(model: ir.Model) -> int:
    """How many stored floats a model has."""
    return sum(
        value.const_value.size
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None and value.const_value.dtype.is_floating_point()
    )
