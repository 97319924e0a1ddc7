"""The grid of input classes that every rewrite is judged on.

Random normal inputs show almost no numerical mistake. Each class here is a kind of row that has broken a
kernel somewhere: large offsets, constants up to an ulp, massive channels, masks of every form, the ends of
the number range. The grid is fixed and has a version, so that a score can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

from tautomer.verify.constants import Format, format_of, ulp

GRID_VERSION = 1

_SOFTMAX = {"Softmax", "LogSoftmax", "ReduceLogSumExp", "ReduceMax", "SoftmaxPlusOne", "BiasSoftmax"}
_ATTENTION = {"Attention": 3, "MultiHeadAttention": 5}
_BEFORE_SOFTMAX = {
    *("Add", "Sub", "Mul", "Div", "Where", "Cast", "Identity", "Tanh", "Max", "Min", "Clip"),
    *("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Slice", "Concat", "Flatten"),
}

Rows = NDArray[np.float64]
_Maker = Callable[[np.random.Generator, Rows, Format], Rows]


@dataclass(frozen=True)
class InputClass:
    """A kind of row.

    Attributes:
        name: for reports.
        change: makes rows of the class out of standard normal ones, before they are rounded to the type.
        special: some rows hold NaN or infinities.
        scores: only what goes into a softmax looks like this; elsewhere its sums just overflow.
    """

    name: str
    change: _Maker
    special: bool = False
    scores: bool = False

    def rows(self, shape: Sequence[int], dtype: DTypeLike, seed: int) -> NDArray[Any]:
        """An array of this class whose last axis is the row."""
        rng = np.random.default_rng([GRID_VERSION, seed])
        width = shape[-1] if len(shape) else 1
        count = int(np.prod(shape[:-1], dtype=np.int64)) if len(shape) else 1
        normal = rng.standard_normal((count, width))
        with np.errstate(all="ignore"):
            made = self.change(rng, normal, format_of(dtype)) if normal.size else normal
            return np.asarray(made.reshape(tuple(shape)).astype(dtype))


def _within(kind: Format, size: float) -> float:
    """A size that the type can hold with room for a sum of a few; narrow types get smaller ones."""
    return min(size, kind.largest / 16.0)


def _offset(size: float) -> _Maker:
    return lambda rng, x, kind: x + _within(kind, size)


def _scaled(size: float) -> _Maker:
    return lambda rng, x, kind: np.copysign(_within(kind, size) * (1.0 + np.abs(x)), x)


def _constant_up_to_an_ulp(rng: np.random.Generator, x: Rows, kind: Format) -> Rows:
    level = _levels(x)
    step = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(level), 1.0))) - kind.digits)
    return np.asarray(np.round(level / step) * step + rng.integers(-1, 2, x.shape) * step)


def _levels(x: Rows) -> Rows:
    """A different constant for each row; 0 among them."""
    row = np.arange(x.shape[0]).reshape(-1, 1)
    return np.broadcast_to(7.3 * row * (-1.0) ** row, x.shape)


def _massive(rng: np.random.Generator, x: Rows, kind: Format) -> Rows:
    channels = rng.choice(x.shape[1], max(x.shape[1] // 256, 1), replace=False)
    x[:, channels] += _within(kind, 3000.0) * np.sign(x[:, channels])
    return x


def _sorted(direction: int) -> _Maker:
    return lambda rng, x, kind: np.sort(10.0 * x, axis=-1)[:, ::direction]


def _prefix(rng: np.random.Generator, x: Rows, kind: Format) -> Rows:
    """The first half or more is -inf: longer than a block of any blocked kernel."""
    width = x.shape[1]
    starts = rng.integers(width // 2, max(width - 1, width // 2 + 1), x.shape[0])
    x[np.arange(width) < np.minimum(starts, width - 1).reshape(-1, 1)] = -np.inf
    return x


def _one_live(rng: np.random.Generator, x: Rows, kind: Format) -> Rows:
    live = rng.integers(0, x.shape[1], x.shape[0])
    x[np.arange(x.shape[1]) != live.reshape(-1, 1)] = -np.inf
    return x


def _all_masked(rng: np.random.Generator, x: Rows, kind: Format) -> Rows:
    x[::2] = -np.inf
    return x


def _lowest(rng: np.random.Generator, x: Rows, kind: Format) -> Rows:
    masked = rng.random(x.shape) < 0.4
    masked[:, 0] = False
    masked[-1] = len(masked) > 1  # one row of nothing else
    return np.where(masked, -kind.largest, x)


def _put(number: float) -> _Maker:
    def change(rng: np.random.Generator, x: Rows, kind: Format) -> Rows:
        x[np.arange(x.shape[0]), rng.integers(0, x.shape[1], x.shape[0])] = number
        return x

    return change


CLASSES = (
    InputClass("normal", lambda rng, x, kind: x),
    InputClass("offset 10", _offset(1e1)),
    InputClass("offset 1e3", _offset(1e3)),
    InputClass("offset 1e7", _offset(1e7)),
    InputClass("constant up to an ulp", _constant_up_to_an_ulp),
    InputClass("constant", lambda rng, x, kind: _levels(x)),
    InputClass("massive channels", _massive),
    InputClass("ascending", _sorted(1)),
    InputClass("descending", _sorted(-1)),
    InputClass("-inf prefix", _prefix, special=True, scores=True),
    InputClass("one live", _one_live, special=True, scores=True),
    InputClass("all masked", _all_masked, special=True, scores=True),
    InputClass("finfo.min mask", _lowest, scores=True),
    InputClass("denormal", lambda rng, x, kind: x * (kind.tiny / 4.0)),
    InputClass("squares overflow", lambda rng, x, kind: x * float(np.sqrt(kind.largest)) * 0.55),
    InputClass("one NaN", _put(np.nan), special=True),
    InputClass("one Inf", _put(np.inf), special=True),
    InputClass("size 1e8", _scaled(1e8)),
    InputClass("size 1e10", _scaled(1e10)),
    InputClass("ties", lambda rng, x, kind: np.clip(np.round(x), -1.0, 1.0) * 5.0),
)


def class_named(name: str) -> InputClass:
    """The class of this name."""
    return next(each for each in CLASSES if each.name == name)


def are_scores(value: ir.Value) -> bool:
    """True when nothing but pointwise arithmetic and movement lies between a value and some softmax."""
    seen, waiting = {value}, [value]
    while waiting:
        for node, slot in waiting.pop().uses():
            if node.op_type in _SOFTMAX or (node.op_type in _ATTENTION and slot == _ATTENTION[node.op_type]):
                return True
            if node.op_type in _BEFORE_SOFTMAX:
                waiting += [output for output in node.outputs if output not in seen]
                seen.update(node.outputs)
    return False


def moved(x: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """x with every element one ulp up or down, at random; NaN and infinities stay."""
    wide = x.astype(np.float64)
    step = ulp(x, x.dtype) * (rng.integers(0, 2, x.shape, dtype=np.int8) * 2 - 1)
    return np.where(np.isfinite(wide), wide + step, wide)
