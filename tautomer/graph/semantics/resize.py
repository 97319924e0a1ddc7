"""Resize and Upsample: along each axis every element is one of the old axis, or a weighted mean of a few.

    y[i] = sum_k w[k, i] x[place[k, i]]

Places and weights follow from sizes and attributes alone, so nearest only moves elements and the other modes
are linear: one product with a constant matrix of 2 entries a row (linear), 4 (cubic), or more (antialias) for
each axis that is resized.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import kind_of
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported
from tautomer.graph.semantics.movement import moved, shape_of
from tautomer.graph.semantics.resized_axes import ResizedAxis, coordinates, given_numbers, resized_axes
from tautomer.graph.semantics.table import meaning, older

_CROP = "tf_crop_and_resize"
_GRID = 2.0**46  # weights are multiples of 1 / _GRID


@meaning("Resize")
def resize(m: Mathematics, call: Call, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    """y[i] = sum_k w[k, i] x[place[k, i]] along each axis, ONNX Resize-19 and those before it."""
    if older(call, 11):
        return _as_before_11(m, call, x, roi)  # whose second input are the scales
    rounding = str(call.get("nearest_mode", "round_prefer_floor"))
    places = str(call.get("coordinate_transformation_mode", "half_pixel"))
    axes = resized_axes(m, call, shape_of(m, x), roi if places == _CROP else None, scales, sizes)
    for axis in axes:
        x = _along(m, call, x, axis, places, rounding)
    return x


@meaning("Upsample")
def upsample(m: Mathematics, call: Call, x: Any, scales: Any = None) -> Any:
    """y[i] = sum_k w[k, i] x[place[k, i]] along each axis, ONNX Upsample-9; of opset 7 with an attribute."""
    given = call.get("scales") if scales is None else given_numbers(m, scales)
    if given is None:
        raise Unsupported("Upsample", "of opset 1")
    return _as_before_11(m, call, x, np.asarray(given, np.float32))


def _as_before_11(m: Mathematics, call: Call, x: Any, scales: Any) -> Any:
    """Nothing is said about positions there; onnxruntime takes x / scale, rounded up where it shrinks."""
    for axis in resized_axes(m, call, shape_of(m, x), None, scales, None):
        x = _along(m, call, x, axis, "asymmetric", "ceil" if axis.scale < 1 else "floor")
    return x


def _along(m: Mathematics, call: Call, x: Any, axis: ResizedAxis, places: str, rounding: str) -> Any:
    """x with one axis resized."""
    if axis.is_kept(places == _CROP):
        return x
    mode = call.get("mode", "nearest")
    # which of two is nearer can be a matter of rounding, and then it has to be that of onnxruntime
    where = coordinates(places, axis, np.float32 if mode == "nearest" else np.float64).astype(np.float64)
    if mode == "nearest":
        chosen = _nearest(rounding, where, axis)
        result = moved(m, lambda a: np.take(a, chosen, axis.index), x)
    elif mode in ("linear", "cubic"):
        if not m.is_value(x):
            raise Unsupported(call.op_type, "a mean of integers")
        result = _blended(m, x, axis.index, *_taps(call, where, axis))
    else:
        raise Unsupported(call.op_type, f"mode {mode}")
    if places != _CROP:
        return result
    inside = (where >= 0) & (where <= axis.before - 1)
    kind = kind_of(m, x)
    number = kind.constant(np.asarray(call.get("extrapolation_value", 0.0)))
    beside = (1,) * (len(shape_of(m, x)) - 1 - axis.index)
    # the rows of weights sum to one, so that what lies outside along one axis stays what it is along the next
    return kind.where(inside.reshape(-1, *beside), result, number) if not inside.all() else result


def _nearest(rounding: str, where: Array, axis: ResizedAxis) -> Array:
    """The element that stands for each coordinate."""
    if rounding == "round_prefer_floor":
        found = np.ceil(where - 0.5)
    elif rounding == "round_prefer_ceil":
        found = np.floor(where + 0.5)
    elif rounding in ("floor", "ceil"):
        found = np.floor(where) if rounding == "floor" else np.ceil(where)
    else:
        raise Unsupported("Resize", f"nearest_mode {rounding}")
    return np.asarray(np.clip(found, 0, axis.before - 1), dtype=np.int64)


def _taps(call: Call, where: Array, axis: ResizedAxis) -> tuple[Array, Array]:
    """The elements that each coordinate is a mean of, and their weights; both [taps, length]."""
    cubic = call.get("mode") == "cubic"
    # an antialiasing filter is as wide as the step between coordinates
    stretch = max(1.0, 1.0 / axis.scale) if call.get("antialias", 0) else 1.0
    reach = int(np.ceil((2 if cubic else 1) * stretch))
    floor = np.floor(where)
    places = floor + np.arange(1 - reach, 1 + reach)[:, None]
    distance = np.abs(where - places) / stretch
    weights = _cubic(distance, float(call.get("cubic_coeff_a", -0.75))) if cubic else _linear(distance)
    if call.get("exclude_outside", 0):
        weights = np.where((places < 0) | (places >= axis.before), 0.0, weights)
    total = weights.sum(0)
    weights = _summing_to_one(weights / np.where(total == 0, 1.0, total))
    return np.clip(places, 0, axis.before - 1).astype(np.int64), weights


def _linear(d: Array) -> Array:
    """1 - d, and 0 from a distance of 1 on."""
    return np.clip(1.0 - d, 0.0, 1.0)


def _cubic(d: Array, a: float) -> Array:
    """Keys' kernel: (a + 2) d^3 - (a + 3) d^2 + 1 up to 1, a (d^3 - 5 d^2 + 8 d - 4) up to 2, then 0."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _summing_to_one(weights: Array) -> Array:
    """The weights on a grid coarse enough that sums of them are exact, each column summing to 1.

    A constant image then stays what it is also where one computes with the stored weights exactly.
    """
    grid = np.rint(weights * _GRID) / _GRID
    if grid.size:
        top = np.argmax(grid, 0), np.arange(grid.shape[1])
        grid[top] += 1.0 - grid.sum(0)
    return np.asarray(grid)


def _blended(m: Mathematics, x: Any, axis: int, places: Array, weights: Array) -> Any:
    """The sum over the taps of weight times element."""
    beside = (1,) * (len(m.shape(x)) - 1 - axis)
    # lifted as one tensor: a number alone would be read as one of a formula
    factors, total = m.constant(weights), None
    for k, chosen in enumerate(places):
        factor = m.move(lambda w, k=k: w[k].reshape(-1, *beside), factors)
        part = m.move(lambda a, chosen=chosen: np.take(a, chosen, axis), x) * factor
        total = part if total is None else total + part
    return total
