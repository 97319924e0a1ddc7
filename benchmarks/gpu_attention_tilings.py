"""Ways to cut attention kernels up that are tried on a Hopper.

By rows, keys, warps, stages, loads, sigmoid and registers.

All were compiled for it ahead; few need more registers than there are.
"""

from __future__ import annotations

from itertools import starmap
from typing import Any

from tautomer.codegen.triton_attention_tiles import Tiling


def _tilings(*numbers: Any) -> tuple[Tiling, ...]:
    return tuple(starmap(Tiling, numbers))


FORWARD = {
    128: _tilings(
        (128, 128, 4, 2, "specialised", "arithmetic"),
        (128, 128, 4, 2, "specialised", "pair"),
        (128, 128, 4, 2, "specialised", "reciprocal"),
        (128, 64, 4, 3, "specialised", "arithmetic"),
        (128, 64, 4, 4, "specialised", "pair"),
        (128, 64, 8, 2, "descriptors", "arithmetic", 128),
        (128, 64, 8, 2, "descriptors", "pair", 128),
        (128, 128, 8, 2, "descriptors", "arithmetic"),
        (128, 128, 8, 2, "descriptors", "pair"),
        (128, 128, 8, 2, "descriptors", "reciprocal"),
        (128, 128, 8, 2, "descriptors", "tanh"),
        (128, 64, 8, 3, "pointers", "arithmetic"),
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (128, 64, 4, 2, "descriptors", "pair"),
    ),
    64: _tilings(
        (128, 128, 4, 3, "specialised", "arithmetic"),
        (128, 128, 4, 3, "specialised", "pair"),
        (128, 128, 4, 3, "specialised", "polynomial"),
        (128, 128, 4, 2, "specialised", "arithmetic"),
        (128, 64, 4, 3, "specialised", "arithmetic"),
        (256, 64, 4, 3, "specialised", "arithmetic"),
        (256, 128, 4, 2, "specialised", "arithmetic"),
        (128, 128, 8, 2, "descriptors", "arithmetic", 128),
        (128, 128, 8, 2, "descriptors", "tanh", 128),
        (128, 64, 8, 3, "descriptors", "arithmetic", 128),
        (128, 64, 4, 2, "descriptors", "arithmetic"),
        (64, 64, 4, 3, "descriptors", "arithmetic"),
        (64, 128, 4, 2, "descriptors", "pair"),
        (128, 64, 8, 3, "pointers", "arithmetic"),
    ),
}
SOFTMAX = {
    128: _tilings(
        (128, 128, 4, 2, "specialised"),
        (128, 64, 8, 2, "descriptors", "division", 128),
        (128, 128, 8, 2, "descriptors"),
    ),
    64: _tilings(
        (128, 128, 4, 3, "specialised"),
        (128, 128, 8, 2, "descriptors", "division", 128),
        (128, 64, 4, 2, "descriptors"),
    ),
}
QUERIES = {
    128: _tilings(
        (128, 64, 4, 2, "specialised", "arithmetic"),
        (128, 64, 8, 2, "descriptors", "arithmetic"),
        (128, 64, 8, 3, "descriptors", "arithmetic"),
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (128, 64, 8, 2, "pointers", "arithmetic"),
    ),
    64: _tilings(
        (128, 64, 4, 3, "specialised", "arithmetic"),
        (128, 128, 4, 2, "specialised", "arithmetic"),
        (128, 64, 8, 3, "descriptors", "arithmetic", 128),
        (64, 64, 4, 3, "descriptors", "arithmetic"),
        (128, 64, 8, 3, "pointers", "arithmetic"),
    ),
}
KEYS = {
    128: _tilings(
        (64, 128, 4, 2, "specialised", "arithmetic"),
        (64, 128, 8, 2, "descriptors", "arithmetic"),
        (32, 128, 8, 3, "descriptors", "arithmetic"),
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (64, 128, 8, 2, "pointers", "arithmetic"),
    ),
    64: _tilings(
        (64, 128, 4, 2, "specialised", "arithmetic"),
        (64, 128, 4, 3, "specialised", "arithmetic"),
        (64, 128, 8, 2, "descriptors", "arithmetic"),
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (64, 128, 8, 3, "pointers", "arithmetic"),
    ),
}
TOGETHER = {
    128: _tilings(
        (64, 128, 8, 2, "descriptors", "arithmetic"),
        (32, 128, 8, 2, "descriptors", "arithmetic"),
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (64, 128, 8, 2, "pointers", "arithmetic"),
        (32, 128, 8, 2, "pointers", "arithmetic"),
    ),
    64: _tilings(
        (64, 128, 8, 2, "descriptors", "arithmetic"),
        (128, 128, 8, 2, "descriptors", "arithmetic"),
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (64, 128, 8, 2, "pointers", "arithmetic"),
    ),
}
