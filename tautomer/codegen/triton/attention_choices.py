"""How attention kernels are cut up on a device.

Each way is the fastest that was measured, or one that the device's compiler takes without spilling. On a
Hopper they were chosen by the attention section of benchmarks.gpu.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from tautomer.codegen.triton.attention_tiles import Tiling, padded
from tautomer.codegen.triton.sigmoid import PORTABLE, SMALLEST
from tautomer.patterns.attention.form import AttentionForm

KERNELS = ("forward", "queries", "keys", "one")
DEVICES = ("sm_80", "sm_90", "gfx942")
WIDEST = 256

# By the wider of the two padded head dimensions.
_Choices = dict[int, Tiling]
_HOPPER: dict[str, _Choices] = {
    "forward": {
        64: Tiling(64, 128, 4, 2, "parameters", "quadruple"),
        128: Tiling(128, 64, 4, 2, "parameters", "quadruple"),
    },
    "queries": {
        64: Tiling(64, 64, 4, 3, "parameters", "pair"),
        128: Tiling(128, 64, 8, 3, "descriptors", "arithmetic"),
    },
    "keys": {
        64: Tiling(64, 64, 4, 2, "parameters", "quadruple"),
        128: Tiling(64, 64, 4, 2, "parameters", "pair"),
    },
}
# others need more registers, as a window does
_OF_HOPPER = ("sigmoid", "softmax", "relu", "relu2")
# with a mask that depends on the place, the registers do not hold as much
_HOPPER_CAUSAL = {128: Tiling(128, 32, 4, 4, "parameters", "pair")}
_NARROW: dict[str, _Choices] = {
    "one": {64: Tiling(16, 128, 4, 3), 128: Tiling(16, 64, 4, 3), 256: Tiling(16, 32, 4, 3)},
    "forward": {
        64: Tiling(64, 64, 4, 2, sigmoid="arithmetic"),
        128: Tiling(64, 64, 8, 2, sigmoid="arithmetic"),
        256: Tiling(64, 32, 8, 1, sigmoid="arithmetic"),
    },
    "queries": {
        64: Tiling(64, 64, 4, 2, sigmoid="arithmetic"),
        128: Tiling(64, 32, 4, 2, sigmoid="arithmetic"),
        256: Tiling(32, 32, 8, 1, sigmoid="arithmetic"),
    },
    "keys": {
        64: Tiling(32, 64, 8, 2, sigmoid="arithmetic"),
        128: Tiling(32, 64, 8, 2, sigmoid="arithmetic"),
        256: Tiling(16, 32, 8, 1, sigmoid="arithmetic"),
    },
}
# a mask that is read, or scores that depend on the place, take registers, too
_NARROW_MASKED: dict[tuple[str, int], Tiling] = {
    ("forward", 128): Tiling(64, 32, 8, 2, sigmoid="arithmetic"),
    ("forward", 256): Tiling(32, 16, 8, 1, sigmoid="arithmetic"),
    ("queries", 64): Tiling(64, 32, 4, 2, sigmoid="arithmetic"),
    ("keys", 64): Tiling(16, 64, 8, 2, sigmoid="arithmetic"),
}
_NARROW_MASKED_AMD = {("keys", 128): Tiling(16, 64, 8, 1, sigmoid="arithmetic")}
_NARROW_AMD: dict[tuple[str, int], Tiling] = {("queries", 256): Tiling(32, 16, 8, 1, sigmoid="arithmetic")}
# float32 by AMD's matrix units
_WIDE: dict[str, _Choices] = {
    "one": {64: Tiling(16, 64, 4, 2), 128: Tiling(16, 32, 4, 2)},
    "forward": {64: Tiling(64, 32, 4, 2), 128: Tiling(64, 32, 8, 2)},
    "queries": {64: Tiling(64, 32, 4, 2), 128: Tiling(32, 16, 8, 2)},
    "keys": {64: Tiling(32, 32, 4, 2), 128: Tiling(16, 16, 8, 2)},
}
# float32 in three parts of 19 bits: a thread holds each operand twice, and all keys of a tile by itself, so
# that of d = 128 there is room for 16 of them, and of 256 for none
_SPLIT: dict[str, _Choices] = {
    "one": {
        64: Tiling(16, 64, 4, 2, products="tf32x3"),
        128: Tiling(16, 32, 4, 2, products="tf32x3"),
        256: Tiling(16, 16, 8, 1),
    },
    "forward": {
        64: Tiling(32, 32, 4, 2, products="tf32x3"),
        128: Tiling(32, 16, 4, 1, products="tf32x3"),
        256: Tiling(16, 16, 8, 1),
    },
    "queries": {
        64: Tiling(32, 32, 4, 2, products="tf32x3"),
        128: Tiling(16, 16, 4, 2, products="tf32x3"),
        256: Tiling(16, 16, 8, 1),
    },
    "keys": {
        64: Tiling(32, 32, 4, 2, products="tf32x3"),
        128: Tiling(16, 16, 4, 2, products="tf32x3"),
        256: Tiling(16, 16, 8, 1),
    },
}


def widest(dtype: str, device: str) -> int:
    """The widest heads that a device has registers for."""
    return 128 if dtype == "float32" and device == "gfx942" else WIDEST


@cache
def choice(
    form: AttentionForm, kernel: str, head: int, value_head: int, device: str, *, described: bool = False
) -> Tiling:
    """How a kernel is cut up.

    Args:
        form: what is computed.
        kernel: one of KERNELS.
        head: d, at most `widest`.
        value_head: e, the same.
        device: one of DEVICES.
        described: whether all tensors lie so that descriptors can tell where.
    """
    width = max(padded(head), padded(value_head), 64)
    if form.dtype == "float32":
        if device == "gfx942":
            return _WIDE[kernel][width]
        return replace(_SPLIT[kernel][width], sigmoid="reciprocal")
    masked = bool(form.mask or form.alibi or form.lengths)
    plain = form.score in _OF_HOPPER and not (masked or form.softcap or form.window)
    if device == "sm_90" and described and plain and width in _HOPPER.get(kernel, ()):
        found = _HOPPER[kernel][width]
        if kernel == "forward" and form.causal:
            found = _HOPPER_CAUSAL.get(width, found)
    else:
        place, found = (kernel, width), _NARROW[kernel][width]
        found = _NARROW_MASKED.get(place, found) if masked else found
        if device == "gfx942":
            found = _NARROW_AMD.get(place, replace(found, stages=1))
            found = _NARROW_MASKED_AMD.get(place, found) if masked else found
    if form.mask == "additive" and found.sigmoid in SMALLEST:
        found = replace(found, sigmoid="reciprocal")  # which is 0 where the mask is -inf
    if device == "gfx942" and found.sigmoid not in PORTABLE:
        found = replace(found, sigmoid="division")
    return found
