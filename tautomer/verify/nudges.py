"""Constants that one of two models has only, and the same moved by what rounding them may have moved them.

Which way an element moves is a function of its value and of the draw: equal numbers move together, in every
copy, slice and transpose of a tensor, as they do when a tool computes them by one formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.expression import constant_tensor
from tautomer.verify.constants import format_of, ulp
from tautomer.verify.field.numbers import Reader
from tautomer.verify.fingerprint import mixed
from tautomer.verify.read_number import read_number
from tautomer.verify.weights import MASKING, content, is_weight

_EPSILON = 2.0**-52
_SAMPLE = 256  # elements of a tensor that are looked for
_PIECE = 1 << 20


@dataclass(frozen=True)
class Strangers:
    """What one model stores and the other does not.

    Attributes:
        values: the constants of either model that may have been rounded.
        made: how many of them the second model has.
    """

    values: frozenset[ir.Value]
    made: int


def strangers_of(original: ir.Model, other: ir.Model) -> Strangers:
    """The floats of either model that the other does not have, in any order, shape or name.

    Nor are they cut or joined from what it has: nothing is rounded then. Masks are left out, and so are the
    single numbers of formulas, 1/2 and 0.044715, which are read as what they are.
    """
    models = original, other
    stored = [
        {value: content(array) for value, array in _floats(model) if _may_be_rounded(array)}
        for model in models
    ]
    first, second = (set(contents.values()) for contents in stored)
    shared = first & second
    ours, theirs = (
        _not_copied([value for value, key in contents.items() if key not in shared], elsewhere)
        for contents, elsewhere in zip(stored, reversed(models), strict=True)
    )
    return Strangers(frozenset([*ours, *theirs]), len(theirs))


def _not_copied(values: list[ir.Value], elsewhere: ir.Model) -> list[ir.Value]:
    """Those of which an element, among some that are looked at, is not stored in the other model."""
    samples = {value: _sample(_array(value)) for value in values}
    wanted = np.unique(np.concatenate([*samples.values(), np.zeros(1)]))
    seen = wanted == 0.0
    for _, array in _floats(elsewhere) if values else ():
        flat = array.reshape(-1)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE].astype(np.float64)
            places = np.minimum(np.searchsorted(wanted, piece), wanted.size - 1)
            seen[places[wanted[places] == piece]] = True
    return [value for value in values if not seen[np.searchsorted(wanted, samples[value])].all()]


def _sample(array: NDArray[Any]) -> NDArray[np.float64]:
    flat = array.reshape(-1)
    return np.asarray(flat[:: max(flat.size // _SAMPLE, 1)].astype(np.float64))


def _floats(model: ir.Model) -> Iterator[tuple[ir.Value, NDArray[Any]]]:
    for graph in model.graphs():
        constants = (node.outputs[0] for node in graph if node.op_type == "Constant")
        for value in [*graph.initializers.values(), *constants]:
            tensor = _tensor(value)
            if tensor is not None and tensor.dtype.is_floating_point():
                yield value, np.asarray(tensor.numpy())


def _tensor(value: ir.Value) -> ir.TensorProtocol | None:
    return value.const_value if value.producer() is None else constant_tensor(value)


def _array(value: ir.Value) -> NDArray[Any]:
    tensor = _tensor(value)
    assert tensor is not None
    return np.asarray(tensor.numpy())


def _may_be_rounded(array: NDArray[Any]) -> bool:
    if array.size != 1:
        return is_weight(array)
    number = float(array.reshape(-1)[0])
    if not np.isfinite(number) or number < MASKING or Reader().read(array) is not None:
        return False
    short = math.ldexp(math.frexp(number)[0], format_of(array.dtype).digits // 2 + 1)
    return short != round(short)  # what takes half the digits of the type was not rounded to it


@dataclass(frozen=True)
class Nudge:
    """Moves every element of some constants up or down; to be asked by the interpreter.

    Attributes:
        values: the constants to move by half an ulp of their type; of float64 by a whole one.
        draw: another draw moves them otherwise.
        noise: move every other weight as well, and all of them by an ulp of float64 only.
        reads: put the number that a scalar stands for in its place, where the domain does not.
    """

    values: frozenset[ir.Value]
    draw: int = 0
    noise: bool = False
    reads: bool = True
    _kinds: dict[int, bool] = field(default_factory=dict, compare=False, repr=False)

    def constants(self, value: ir.Value) -> Any:
        """The constant, moved; None where it stays."""
        return self._moved(value, None)

    def rows(self, value: ir.Value, positions: NDArray[Any]) -> Any:
        """Some rows of it, moved."""
        return self._moved(value, positions)

    def _moved(self, value: ir.Value, positions: NDArray[Any] | None) -> Any:
        tensor = _tensor(value)
        if tensor is None or not tensor.dtype.is_floating_point():
            return None
        if not self._moves(value, tensor):
            return read_number(tensor) if self.reads and tensor.size == 1 else None
        array = np.asarray(tensor.numpy())
        array = array if positions is None else array[positions]
        wide = array.astype(np.float64)
        words = np.ascontiguousarray(wide + 0.0).view(np.uint64).reshape(wide.shape)  # + 0.0: -0 is 0
        up = mixed(words ^ mixed(np.full((), self.draw + 1, np.uint64))) & np.uint64(1)
        step = np.abs(wide) * _EPSILON if self.noise else _step(array)
        return np.where(wide == 0.0, wide, wide + step * (up.astype(np.float64) * 2.0 - 1.0))

    def _moves(self, value: ir.Value, tensor: ir.TensorProtocol) -> bool:
        if not self.noise:
            return value in self.values
        if id(tensor) not in self._kinds:
            self._kinds[id(tensor)] = is_weight(np.asarray(tensor.numpy()))
        return self._kinds[id(tensor)]


def _step(array: NDArray[Any]) -> NDArray[Any]:
    whole = array.dtype == np.float64  # half of one would be lost when it is added
    return np.asarray(ulp(array, array.dtype) * (1.0 if whole else 0.5))
