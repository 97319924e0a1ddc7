"""Ways to cut attention kernels up that are tried on a Hopper.

By rows, keys, warps, stages, loads, sigmoid and registers.

All were compiled for it ahead; few need more registers than there are.
"""

from __future__ import annotations

from itertools import starmap
from typing import Any

from tautomer.codegen.triton.attention_tiles import Tiling


def _tilings(*numbers: Any) -> tuple[Tiling, ...]:
    return tuple(starmap(Tiling, numbers))


FORWARD = {
    128: _tilings(
        (128, 64, 4, 2, "descriptors", "pair"),
        (128, 64, 4, 2, "parameters", "pair"),
        (128, 64, 4, 2, "parameters", "quadruple"),
        (128, 64, 4, 2, "parameters", "reciprocal"),
        (128, 64, 4, 2, "parameters", "arithmetic"),
        (128, 64, 4, 2, "parameters", "tanh"),
        (128, 32, 4, 3, "parameters", "pair"),
        (128, 32, 4, 4, "parameters", "pair"),
        (64, 64, 4, 2, "parameters", "pair"),
        (128, 64, 8, 2, "parameters", "pair", 128),
        (128, 64, 8, 3, "pointers", "pair"),
    ),
    64: _tilings(
        (64, 128, 4, 2, "descriptors", "pair"),
        (64, 128, 4, 2, "parameters", "pair"),
        (64, 128, 4, 2, "parameters", "quadruple"),
        (64, 128, 4, 2, "parameters", "arithmetic"),
        (64, 128, 4, 2, "parameters", "tanh"),
        (64, 64, 4, 3, "parameters", "quadruple"),
        (128, 64, 4, 2, "parameters", "quadruple"),
        (128, 64, 4, 3, "parameters", "pair"),
        (128, 128, 8, 2, "parameters", "quadruple", 128),
        (64, 128, 4, 2, "pointers", "pair"),
    ),
}
SOFTMAX = {
    128: _tilings(
        (128, 64, 4, 2, "parameters"),
        (128, 32, 4, 3, "parameters"),
        (64, 64, 4, 2, "parameters"),
        (128, 64, 8, 2, "parameters", "division", 128),
    ),
    64: _tilings(
        (64, 128, 4, 2, "parameters"),
        (128, 64, 4, 2, "parameters"),
        (128, 128, 8, 2, "parameters", "division", 128),
    ),
}
QUERIES = {
    128: _tilings(
        (128, 64, 8, 3, "descriptors", "arithmetic"),
        (128, 64, 8, 3, "parameters", "pair"),
        (64, 64, 4, 2, "parameters", "pair"),
        (64, 32, 4, 3, "parameters", "pair"),
        (128, 32, 8, 3, "parameters", "pair", 128),
    ),
    64: _tilings(
        (64, 64, 4, 3, "descriptors", "arithmetic"),
        (64, 64, 4, 3, "parameters", "pair"),
        (64, 64, 4, 3, "parameters", "quadruple"),
        (128, 64, 8, 3, "parameters", "pair", 128),
        (64, 128, 4, 2, "parameters", "pair"),
    ),
}
KEYS = {
    128: _tilings(
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (64, 64, 4, 2, "parameters", "pair"),
        (32, 64, 4, 3, "parameters", "pair"),
        (32, 128, 8, 3, "parameters", "pair"),
        (64, 128, 8, 2, "parameters", "pair"),
    ),
    64: _tilings(
        (64, 64, 4, 2, "descriptors", "arithmetic"),
        (64, 64, 4, 2, "parameters", "pair"),
        (64, 64, 4, 2, "parameters", "quadruple"),
        (64, 128, 8, 2, "parameters", "pair", 128),
        (32, 128, 4, 3, "parameters", "pair"),
    ),
}
