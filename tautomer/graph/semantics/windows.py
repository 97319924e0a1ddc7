"""Operators on sliding windows of any number of dimensions: convolution and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import CONCRETE, kind_of
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported
from tautomer.graph.semantics.movement import shape_of
from tautomer.graph.semantics.selection import filled
from tautomer.graph.semantics.table import meaning

_COLUMN_ELEMENTS = 1 << 23  # a window matrix is built in pieces of about this many elements


@dataclass(frozen=True)
class Windows:
    """Where the windows of an operator lie, per spatial axis.

    Attributes:
        kernel, strides, dilations: as the attributes say.
        pads: elements added before and after.
        counts: how many windows there are.
        overhang: elements that windows of ceil_mode read beyond the padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]
    overhang: tuple[int, ...]

    def cut(self, a: Array) -> Array:
        """The windows of a padded array as a view: batch, channel, counts, kernel."""
        spans = tuple(d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True))
        view = sliding_window_view(a, spans, axis=tuple(range(2, a.ndim)))
        places = tuple(slice(0, n * s, s) for n, s in zip(self.counts, self.strides, strict=True))
        return view[(slice(None), slice(None), *places, *(slice(None, None, d) for d in self.dilations))]

    def padded(self, a: Array, fill: Array) -> Array:
        """The array with its frame."""
        frame = [(low, high + more) for (low, high), more in zip(self.pads, self.overhang, strict=True)]
        return filled(a, fill, [(0, 0), (0, 0), *frame])


def windows_of(call: Call, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> Windows:
    """Reads strides, dilations, pads, auto_pad and ceil_mode for an image of these sizes."""
    n = len(sizes)
    if n == 0 or len(kernel) != n:
        raise ValueError(f"{call.op_type}: a window of {kernel} in an image of {sizes}")
    strides = tuple(call.get("strides") or [1] * n)
    dilations = tuple(call.get("dilations") or [1] * n)
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    auto = call.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-i // s) - 1) * s + k - i, 0) for i, s, k in zip(sizes, strides, spans, strict=True)]
        pads = tuple((t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in totals)
    else:
        flat = [0] * (2 * n) if auto == "VALID" else list(call.get("pads") or [0] * (2 * n))
        pads = tuple(zip(flat[:n], flat[n:], strict=True))
    counts, overhang = [], []
    for size, span, stride, (low, high) in zip(sizes, spans, strides, pads, strict=True):
        room = size + low + high - span
        count = room // stride + 1
        if call.get("ceil_mode", 0) and auto not in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-room // stride) + 1
            if (count - 1) * stride >= size + low:  # a window must begin inside the image or its low padding
                count -= 1
        if room < 0 or count < 0:
            raise ValueError(f"{call.op_type}: a window of {span} in {size}")
        counts.append(count)
        overhang.append(max((count - 1) * stride + span - (size + low + high), 0))
    return Windows(tuple(kernel), strides, dilations, pads, tuple(counts), tuple(overhang))


@meaning("Conv")
def convolution(m: Mathematics, call: Call, x: Any, weight: Any, bias: Any = None) -> Any:
    """Each window of x times each filter, summed, in groups of channels."""
    shape, filters = shape_of(m, x), shape_of(m, weight)
    groups, batch, outputs, channels = int(call.get("group", 1)), shape[0], filters[0], filters[1]
    windows = windows_of(call, shape[2:], filters[2:])
    spots, taps = int(np.prod(windows.counts)), int(np.prod(windows.kernel))
    padded = m.move(windows.padded, x, m.constant(np.asarray(0.0)))
    matrix = m.move(lambda w: w.reshape(groups, outputs // groups, channels, taps), weight)
    piece = max(_COLUMN_ELEMENTS // max(batch * groups * channels * spots, 1), 1)
    total = None
    for begin in range(0, taps, piece):
        some = np.arange(begin, min(begin + piece, taps))
        offsets = np.unravel_index(some, windows.kernel)

        def columns(a: Array, offsets: Any = offsets) -> Array:
            view = windows.cut(a)[(..., *offsets)]  # batch, channel, counts, taps
            view = view.reshape(batch, groups, channels, spots, -1)
            return view.transpose(0, 1, 2, 4, 3).reshape(batch, groups, -1, spots)

        rows = m.move(
            lambda w, some=some: w[..., some].reshape(groups, outputs // groups, channels * len(some)), matrix
        )
        product = m.matmul(rows, m.move(columns, padded))
        total = product if total is None else total + product
    result = m.move(lambda a: a.reshape(batch, outputs, *windows.counts), total)
    if bias is None:
        return result
    return result + m.move(lambda b: b.reshape((-1,) + (1,) * len(windows.kernel)), bias)


@meaning("AveragePool")
def average_pool(m: Mathematics, call: Call, x: Any) -> Any:
    """The mean of each window, with or without what was padded."""
    windows = windows_of(call, shape_of(m, x)[2:], tuple(call.attributes["kernel_shape"]))
    axes = tuple(range(-len(windows.kernel), 0))
    inside = np.ones((1, 1, *shape_of(m, x)[2:]))
    if call.get("count_include_pad", 0):  # but never what lies beyond the padding
        inside = filled(inside, np.ones(()), [(0, 0), (0, 0), *windows.pads])
        framed = filled(inside, np.zeros(()), [(0, 0), (0, 0), *((0, more) for more in windows.overhang)])
    else:
        framed = windows.padded(inside, np.zeros(()))
    counts = windows.cut(framed).sum(axis=axes)
    cut = m.move(lambda a, zero: windows.cut(windows.padded(a, zero)), x, m.constant(np.asarray(0.0)))
    rank = len(m.shape(cut))
    return m.sum(cut, tuple(axis % rank for axis in axes), False) / m.constant(counts)


@meaning("MaxPool")
def max_pool(m: Mathematics, call: Call, x: Any) -> Any:
    """The maximum of each window."""
    if call.outputs > 1:
        raise Unsupported("MaxPool", "positions of the maxima")
    kind = kind_of(m, x)
    windows = windows_of(call, shape_of(m, x)[2:], tuple(call.attributes["kernel_shape"]))
    least = np.asarray(np.iinfo(x.dtype).min if kind is CONCRETE else -np.inf)
    cut = kind.move(lambda a, fill: windows.cut(windows.padded(a, fill)), x, kind.constant(least))
    rank = len(kind.shape(cut))
    return kind.amax(cut, tuple(range(rank - len(windows.kernel), rank)), False)


@meaning("GlobalAveragePool")
def global_average_pool(m: Mathematics, call: Call, x: Any) -> Any:
    """The mean of each channel."""
    return m.mean(x, tuple(range(2, len(m.shape(x)))), True)


@meaning("GlobalMaxPool")
def global_max_pool(m: Mathematics, call: Call, x: Any) -> Any:
    """The maximum of each channel."""
    return m.amax(x, tuple(range(2, len(m.shape(x)))), True)
