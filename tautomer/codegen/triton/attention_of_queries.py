"""The gradient of attention by its queries, in Triton; see `attention_backward`.

dq = scale ds k: a program computes it for a tile of queries, going over the keys tile by tile.
"""

from __future__ import annotations

from tautomer.codegen.triton.attention import kernel_of, product
from tautomer.codegen.triton.attention_backward import arguments, loop, rows_read, slopes_of, weights_again
from tautomer.codegen.triton.attention_query_tiles import bounds, tile_of_queries
from tautomer.codegen.triton.attention_scores import Scores
from tautomer.codegen.triton.attention_tiles import Tiling, described, loaded, stored
from tautomer.patterns.attention.form import AttentionForm

NAME = "attention_of_queries"


def of_queries(form: AttentionForm, tiling: Tiling) -> tuple[str, str]:
    """(name, module) of the kernel of dq; launched with ceil(N / ROWS) * H * B programs."""
    scores = Scores(form, tiling.sigmoid, tiling.products)
    lines = tile_of_queries(scores, ("q", "k", "v", "dy", "dq"))
    if tiling.loads == "descriptors":
        lines += [described("q", "ROWS", "N"), described("dy", "ROWS", "N")]
        lines += [described("k", "KEYS", "limit"), described("v", "KEYS", "limit")]
    lines += scores.of_the_call()
    lines += [f"queries = {loaded('q', 'ROWS', 'row', 'N', False, tiling.loads)}"]
    lines += [f"gradient = {loaded('dy', 'ROWS', 'row', 'N', False, tiling.loads)}"]
    lines += rows_read(scores, "[:, None]")
    lines += bounds(scores)
    lines.append("acc = tl.zeros([ROWS, HEAD_PADDED], tl.float32)")
    positional = bool(form.causal) or form.window
    tail = positional or scores.divided
    ranges: list[tuple[str, str, bool, bool]] = [("low", "high", False, True)]
    if tiling.loads == "pointers" or tail:
        ranges = [("low", "open", True, False)] if form.window else []
        ranges += [("open", "shut", False, True), ("shut", "high", tail, False)]
    for start, end, hidden, inside in ranges:
        body = [
            f"keys = {loaded('k', 'KEYS', 'key', 'limit', inside, tiling.loads)}",
            f"values = {loaded('v', 'KEYS', 'key', 'limit', inside, tiling.loads)}",
            f"s = {product('queries', 'tl.trans(keys)', scores)}",
            *weights_again(scores, hidden, transposed=False),
            f"dw = {product('gradient', 'tl.trans(values)', scores)}",
            *slopes_of(scores, hidden),
            f"acc = {product('ds.to(q.dtype.element_ty)', 'keys', scores, 'acc')}",
        ]
        lines += loop("key", start, end, "KEYS", body)
    lines.append(stored("dq", "acc * scale", "ROWS", "row", "N"))
    return kernel_of(NAME, arguments(form, tiling, ("dq",)), scores, lines)
