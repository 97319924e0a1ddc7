"""Transposed convolution: what a convolution does to gradients, and decoders of images do to images."""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported
from tautomer.graph.semantics.movement import shape_of
from tautomer.graph.semantics.selection import filled
from tautomer.graph.semantics.table import meaning
from tautomer.graph.semantics.windows import convolution


def _pads(call: Call, sizes: tuple[int, ...], strides: list[int], whole: list[int]) -> list[tuple[int, int]]:
    """What is cut off the whole result before and after, by pads, auto_pad and output_shape."""
    n, auto = len(sizes), call.get("auto_pad", "NOTSET")
    wanted = call.get("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if wanted is None:
        flat = [0] * (2 * n) if auto == "VALID" else [int(p) for p in call.get("pads") or [0] * (2 * n)]
        return list(zip(flat[:n], flat[n:], strict=True))
    totals = [full - int(size) for full, size in zip(whole, wanted[-n:], strict=True)]
    if min(totals) < 0 and call.get("output_shape") is None:  # onnxruntime does not do what the text says
        raise Unsupported("ConvTranspose", f"{auto} of steps longer than the window")
    # what nothing reaches is at the end
    lows = [max(total // 2 if auto == "SAME_UPPER" else total - total // 2, 0) for total in totals]
    return [(low, total - low) for low, total in zip(lows, totals, strict=True)]


@meaning("ConvTranspose")
def transposed_convolution(m: Mathematics, call: Call, x: Any, weight: Any, bias: Any = None) -> Any:
    """y[stride i + dilation k - pad] += x[i] w[k]: x with zeros in between, convolved with w backwards."""
    sizes, (channels, outputs, *kernel) = shape_of(m, x)[2:], shape_of(m, weight)
    n, groups = len(sizes), int(call.get("group", 1))
    strides, dilations = list(call.get("strides") or [1] * n), list(call.get("dilations") or [1] * n)
    extra = list(call.get("output_padding") or [0] * n)
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    spread = [s * (i - 1) + 1 for s, i in zip(strides, sizes, strict=True)]
    whole = [a + b + c for a, b, c in zip(spread, spans, extra, strict=True)]
    pads = _pads(call, sizes, strides, whole)
    frame = [(s - low, s - high + e) for s, (low, high), e in zip(spans, pads, extra, strict=True)]

    def apart(a: Array, zero: Array) -> Array:
        out = np.empty((*a.shape[:2], *spread), dtype=a.dtype)
        out[...] = zero.reshape(())
        out[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = a
        return filled(out, zero, [(0, 0), (0, 0), *frame])

    def backwards(w: Array) -> Array:
        turned = w.reshape(groups, channels // groups, outputs, *kernel).swapaxes(1, 2)
        filters = turned.reshape(groups * outputs, channels // groups, *kernel)
        return filters[(slice(None), slice(None), *[slice(None, None, -1)] * n)]

    plain = Call("Conv", attributes={"group": groups, "dilations": dilations})
    image = m.move(apart, x, m.constant(np.asarray(0.0)))
    return convolution(m, plain, image, m.move(backwards, weight), bias)
