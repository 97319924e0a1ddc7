"""Which axes Resize resizes, from what size to what size, and where its elements lie in the old axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import integer_list
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported


@dataclass(frozen=True)
class ResizedAxis:
    """An axis and what becomes of it.

    Attributes:
        index: which axis it is.
        before, after: its size.
        scale: the factor, which is not always after / before: sizes are whole numbers.
        start, end: the region of the old axis, as fractions of it.
    """

    index: int
    before: int
    after: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    def is_kept(self, crops: bool) -> bool:
        """Whether every element stays where it is."""
        whole = not crops or (self.start, self.end) == (0.0, 1.0)
        return self.before == self.after and self.scale == 1.0 and whole


def given_numbers(m: Mathematics, x: Any) -> list[float]:
    """Floats that steer the operator."""
    array = m.concrete(x) if m.is_value(x) else np.asarray(x)
    return [float(number) for number in array.reshape(-1)]


def resized_axes(
    m: Mathematics, call: Call, shape: tuple[int, ...], roi: Any, scales: Any, sizes: Any
) -> list[ResizedAxis]:
    """Reads axes, roi, scales, sizes and keep_aspect_ratio_policy; an empty tensor is one left out."""
    rank = len(shape)
    named = [int(axis) % rank for axis in call.get("axes") or range(rank)]
    before = [shape[axis] for axis in named]
    factors = [] if scales is None else given_numbers(m, scales)
    if factors:
        # in float32, as onnxruntime and shape inference do: 10 * 0.7 is 7 there, a little less in float64.
        # The region takes no part, although the text of the operator says so.
        after = [int(np.floor(np.float32(n) * np.float32(f))) for n, f in zip(before, factors, strict=True)]
    elif sizes is not None:
        after = integer_list(m, sizes)
        factors = [new / old for new, old in zip(after, before, strict=True)]
        policy = call.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            choose = {"not_larger": min, "not_smaller": max}.get(policy)
            if choose is None:
                raise Unsupported("Resize", f"keep_aspect_ratio_policy {policy}")
            factors = [choose(factors)] * len(named)
            after = [int(np.floor(n * f + 0.5)) for n, f in zip(before, factors, strict=True)]
    else:
        raise ValueError(f"{call.op_type}: neither scales nor sizes")
    region = [] if roi is None else given_numbers(m, roi)
    starts, ends = region[: len(named)] or [0.0] * len(named), region[len(named) :] or [1.0] * len(named)
    rows = zip(named, before, after, factors, starts, ends, strict=True)
    return [ResizedAxis(*row) for row in rows]


def coordinates(places: str, axis: ResizedAxis, dtype: DTypeLike) -> Array:
    """Where each element of the resized axis lies in the old one, computed in a type: the text's x_original.

    Args:
        places: coordinate_transformation_mode.
        axis: the axis.
        dtype: float32 or float64.
    """
    scale, start, end = (np.asarray(number, dtype=dtype) for number in (axis.scale, axis.start, axis.end))
    x, last = np.arange(axis.after, dtype=dtype), axis.before - 1
    if places == "asymmetric":
        return np.asarray(x / scale)
    if places == "align_corners":
        # by the size of the tensor, as the text has it; onnx.reference divides by a size with a fraction
        return np.asarray(x * last / max(axis.after - 1, 1))
    if places == "tf_half_pixel_for_nn":
        return np.asarray((x + 0.5) / scale)
    if places == "tf_crop_and_resize":
        if axis.after == 1:
            return np.asarray(0.5 * (start + end) * last).reshape(1)
        return np.asarray(start * last + x * (end - start) * last / (axis.after - 1))
    if places == "half_pixel" or (places == "pytorch_half_pixel" and axis.after > 1):
        return np.asarray((x + 0.5) / scale - 0.5)
    if places == "pytorch_half_pixel":
        return 0 * x
    if places == "half_pixel_symmetric":  # the middles of both axes coincide
        offset = axis.before / 2 * (1 - axis.after / (scale * axis.before))
        return np.asarray(offset + (x + 0.5) / scale - 0.5)
    raise Unsupported("Resize", f"coordinate_transformation_mode {places}")
