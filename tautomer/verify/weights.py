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

from tautomer.verify.fingerprint import digest, mixed

_MASKING = -1e4  # what adds less than this to a score is a mask, not a weight
_SCALE = 2.0**-31


def is_weight(array: np.ndarray[Any, Any]) -> bool:
    """Whether a constant is a weight: several floats, neither a mask nor a table of zeros and ones."""
    if array.size < 2 or array.dtype.kind in "iubUSO":
        return False
    values = array.astype(np.float64)
    if not np.all(np.isfinite(values)) or np.any(values < _MASKING):
        return False
    zeros_and_ones = np.isin(values, (0.0, 1.0))
    return not (array.ndim > 1 and zeros_and_ones.all() and np.unique(values).size == 2)


def randomised(array: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A random number in (-1, 1) for each distinct value: the same for the same value and seed."""
    words = np.ascontiguousarray(array.astype(np.float64) + 0.0).view(np.uint64)  # + 0.0: -0 is 0
    hashed = mixed(words ^ np.uint64((seed * 0x9E3779B97F4A7C15) & (2**64 - 1)))
    signed = (hashed >> np.uint64(33)).astype(np.float64) * 2.0 - 2.0**31
    return np.asarray((signed + 1.0) * _SCALE).reshape(array.shape)


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
        {name: _content(array) for name, array in float_constants(model)} for model in (original, other)
    )
    here, there = set(first.values()), set(second.values())
    new = [name for name, content in second.items() if name not in made and content not in here]
    return new + [name for name, content in first.items() if name not in used and content not in there]


def _content(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    return digest([np.ascontiguousarray(array.astype(np.float64) + 0.0).view(np.uint64)])


def weights_of(model: ir.Model) -> int:
    """How many stored floats a model has."""
    return sum(
        value.const_value.size
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None and value.const_value.dtype.is_floating_point()
    )
