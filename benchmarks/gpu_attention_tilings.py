"""Ways to cut attention kernels up that are tried on a Hopper: rows, keys, warps, stages, loads, sigmoid.

All were compiled for it ahead, and need no more registers than there are.
"""

from __future__ import annotations

from itertools import starmap

from tautomer.codegen.triton_attention_tiles import Tiling

FORWARD = {
    128: tuple(
        starmap(
            Tiling,
            (
                (128, 128, 4, 2, "specialised", "arithmetic"),
                (128, 128, 4, 2, "specialised", "pair"),
                (128, 128, 4, 2, "specialised", "reciprocal"),
                (128, 64, 4, 3, "specialised", "arithmetic"),
                (128, 64, 4, 4, "specialised", "arithmetic"),
                (128, 128, 8, 2, "descriptors", "arithmetic"),
                (128, 128, 8, 2, "descriptors", "pair"),
                (128, 128, 8, 2, "descriptors", "tanh"),
                (128, 64, 8, 3, "descriptors", "arithmetic"),
                (128, 64, 8, 3, "pointers", "arithmetic"),
                (64, 64, 4, 2, "descriptors", "arithmetic"),
                (64, 64, 4, 2, "pointers", "arithmetic"),
                (128, 64, 4, 2, "descriptors", "pair"),
            ),
        )
    ),
    64: tuple(
        starmap(
            Tiling,
            (
                (128, 128, 4, 2, "specialised", "arithmetic"),
                (128, 128, 4, 3, "specialised", "arithmetic"),
                (128, 128, 4, 3, "specialised", "pair"),
                (128, 128, 4, 3, "specialised", "polynomial"),
                (128, 64, 4, 3, "specialised", "arithmetic"),
                (128, 128, 8, 2, "descriptors", "arithmetic"),
                (128, 128, 8, 3, "descriptors", "tanh"),
                (128, 64, 4, 2, "descriptors", "arithmetic"),
                (64, 64, 4, 3, "descriptors", "arithmetic"),
                (64, 128, 4, 2, "descriptors", "arithmetic"),
                (128, 64, 8, 3, "pointers", "arithmetic"),
                (64, 64, 4, 3, "pointers", "arithmetic"),
            ),
        )
    ),
}
QUERIES = {
    128: tuple(
        starmap(
            Tiling,
            (
                (128, 64, 4, 2, "specialised", "arithmetic"),
                (128, 64, 8, 2, "descriptors", "arithmetic"),
                (128, 64, 8, 3, "descriptors", "arithmetic"),
                (64, 64, 4, 2, "descriptors", "arithmetic"),
                (128, 64, 8, 2, "pointers", "arithmetic"),
            ),
        )
    ),
    64: tuple(
        starmap(
            Tiling,
            (
                (128, 64, 4, 3, "specialised", "arithmetic"),
                (128, 128, 4, 2, "specialised", "arithmetic"),
                (128, 64, 8, 3, "descriptors", "arithmetic"),
                (64, 64, 4, 3, "descriptors", "arithmetic"),
                (128, 64, 8, 3, "pointers", "arithmetic"),
            ),
        )
    ),
}
KEYS = {
    128: tuple(
        starmap(
            Tiling,
            (
                (64, 128, 8, 2, "descriptors", "arithmetic"),
                (64, 128, 4, 2, "specialised", "arithmetic"),
                (32, 128, 8, 3, "descriptors", "arithmetic"),
                (64, 64, 4, 2, "descriptors", "arithmetic"),
                (64, 64, 8, 2, "descriptors", "arithmetic"),
                (64, 128, 8, 2, "pointers", "arithmetic"),
            ),
        )
    ),
    64: tuple(
        starmap(
            Tiling,
            (
                (64, 128, 8, 2, "descriptors", "arithmetic"),
                (64, 128, 4, 2, "specialised", "arithmetic"),
                (64, 128, 4, 2, "descriptors", "arithmetic"),
                (128, 128, 8, 2, "descriptors", "arithmetic"),
                (64, 64, 4, 2, "descriptors", "arithmetic"),
                (64, 128, 8, 3, "pointers", "arithmetic"),
            ),
        )
    ),
}
TOGETHER = {
    128: tuple(
        starmap(
            Tiling,
            (
                (64, 128, 8, 2, "descriptors", "arithmetic"),
                (32, 128, 8, 2, "descriptors", "arithmetic"),
                (64, 64, 4, 2, "descriptors", "arithmetic"),
                (64, 64, 8, 2, "descriptors", "arithmetic"),
                (64, 128, 8, 2, "pointers", "arithmetic"),
                (32, 128, 8, 2, "pointers", "arithmetic"),
            ),
        )
    ),
    64: tuple(
        starmap(
            Tiling,
            (
                (64, 128, 8, 2, "descriptors", "arithmetic"),
                (128, 128, 8, 2, "descriptors", "arithmetic"),
                (64, 128, 4, 2, "descriptors", "arithmetic"),
                (64, 64, 4, 2, "descriptors", "arithmetic"),
                (64, 128, 8, 2, "pointers", "arithmetic"),
            ),
        )
    ),
}
