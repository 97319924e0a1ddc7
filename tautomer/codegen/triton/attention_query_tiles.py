"""Which tile of queries a program computes, and which keys the tile meets; for y, and for the gradient of q.

    program = block + blocks * (head + H * batch),   block = 0 ... ceil(N / ROWS) - 1

Where attention is causal the last tiles meet the most keys, and begin first.
"""

from __future__ import annotations

from tautomer.codegen.triton.attention_scores import Scores
from tautomer.codegen.triton.attention_tiles import limit, located, mask_located


def tile_of_queries(scores: Scores, tensors: tuple[str, ...]) -> list[str]:
    """The statements for where a program's tile is, and where the rows of tensors begin there."""
    form = scores.form
    return [
        "program = tl.program_id(0)",
        f"block = {'blocks - 1 - ' if form.causal else ''}program % blocks",
        "head = program // blocks % H",
        "batch = program // blocks // H",
        "kv_head = head // group",
        "row = block * ROWS",
        *map(located, tensors),
        *([mask_located()] if form.mask else []),
        limit(scores),
    ]


def bounds(scores: Scores) -> list[str]:
    """The keys that a tile of queries meets: [low, high), of which all see [open, shut)."""
    form = scores.form
    lines = ["low = 0", "high = limit"]
    lines += ["high = tl.minimum(high, row + ROWS + shift)"] if form.causal else []
    lines += ["low = tl.maximum(row + shift - window + 1, 0) // KEYS * KEYS"] if form.window else []
    lines += ["high = tl.maximum(high, low)"]
    last = "tl.minimum(limit, row + shift + 1)" if form.causal else "limit"
    lines += [f"shut = tl.maximum({last}, 0) // KEYS * KEYS"]
    if form.window:
        lines += [
            "clear = tl.cdiv(tl.maximum(row + ROWS + shift - window, 0), KEYS) * KEYS",
            "open = tl.minimum(tl.maximum(clear, low), tl.cdiv(high, KEYS) * KEYS)",
            "shut = tl.maximum(shut, open)",
        ]
    else:
        lines += ["open = low"]
    return lines
