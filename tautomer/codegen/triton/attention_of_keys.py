"""The gradient of attention by its keys and values, in Triton; see `attention_backward`.

dk = scale ds^T q,  dv = w^T dy: a program computes both for a tile of keys, going over the queries of all
heads that share them tile by tile.
"""

from __future__ import annotations

from tautomer.codegen.triton.attention import kernel_of, product
from tautomer.codegen.triton.attention_backward import (
    arguments,
    loop,
    rows_read,
    share_of,
    slopes_of,
    weights_again,
)
from tautomer.codegen.triton.attention_scores import Scores
from tautomer.codegen.triton.attention_tiles import (
    Tiling,
    described,
    indented,
    limit,
    loaded,
    located,
    mask_located,
    stored,
)
from tautomer.patterns.attention.form import AttentionForm

NAME = "attention_of_keys"


def of_keys(form: AttentionForm, tiling: Tiling, *, grouped: bool = True) -> tuple[str, str]:
    """(name, module) of the kernel of dk and dv; launched with ceil(M / KEYS) * G * B programs.

    Args:
        form: what is computed.
        tiling: how the kernel is cut up.
        grouped: whether several heads share a key head.
    """
    scores = Scores(form, tiling.sigmoid, tiling.products)
    loads = tiling.loads
    lines = [
        "program = tl.program_id(0)",
        "block = program % blocks",
        "kv_head = program // blocks % (H // group)",
        "batch = program // blocks // (H // group)",
        "key = block * KEYS",
        *map(located, ("k", "v", "dk", "dv")),
        limit(scores),
    ]
    if loads == "descriptors":
        lines += [described("k", "KEYS", "limit"), described("v", "KEYS", "limit")]
    lines += [f"keys = {loaded('k', 'KEYS', 'key', 'limit', False, loads)}"]
    lines += [f"values = {loaded('v', 'KEYS', 'key', 'limit', False, loads)}"]
    lines += _row_bounds(scores)
    lines += [f"acc_{name} = tl.zeros([KEYS, {width}_PADDED], tl.float32)" for name, width in _ACCUMULATED]
    one = _of_a_head(scores, tiling)
    if grouped:
        lines += ["for member in range(group):", "    head = kv_head * group + member", *indented(one)]
    else:
        lines += ["head = kv_head", *one]
    lines.append("there = key + tl.arange(0, KEYS)[:, None] < limit")
    lines.append(stored("dk", "tl.where(there, acc_k * scale, 0.0)", "KEYS", "key", "M"))
    lines.append(stored("dv", "tl.where(there, acc_v, 0.0)", "KEYS", "key", "M"))
    return kernel_of(NAME, arguments(form, tiling, ("dk", "dv")), scores, lines)


_ACCUMULATED = (("k", "HEAD"), ("v", "VALUE"))


def _row_bounds(scores: Scores) -> list[str]:
    """Statements for the queries that meet a tile of keys: [low, high), of which [open, shut) all see all."""
    form = scores.form
    low = "tl.maximum(key - shift, 0) // ROWS * ROWS" if form.causal else "0"
    high = "tl.minimum(N, tl.maximum(key + KEYS - 1 - shift + window, 0))" if form.window else "N"
    lines = [f"low = {low}", f"high = tl.where(key < limit, tl.maximum({high}, low), low)"]
    open_ = "tl.cdiv(tl.maximum(key + KEYS - 1 - shift, 0), ROWS) * ROWS" if form.causal else "low"
    lines.append(f"open = tl.minimum(tl.maximum({open_}, low), tl.cdiv(high, ROWS) * ROWS)")
    shut = "tl.minimum(high, tl.maximum(key - shift + window, 0))" if form.window else "high"
    lines.append(f"shut = tl.maximum({shut} // ROWS * ROWS, open)")
    return lines


def _of_a_head(scores: Scores, tiling: Tiling) -> list[str]:
    """What one head of queries gives to the gradients of its keys."""
    form, loads = scores.form, tiling.loads
    lines = list(map(located, ("q", "dy")))
    lines += [mask_located()] if form.mask else []
    if loads == "descriptors":
        lines += [described("q", "ROWS", "N"), described("dy", "ROWS", "N")]
    lines += scores.of_the_call()
    # a query beyond the last is read as 0, and its dy too: it adds nothing
    ranges: list[tuple[str, str, bool, bool]] = [("low", "open", True, False)] if form.causal else []
    if loads != "pointers" and not form.window:
        ranges += [("open", "high", False, True)]
    else:
        ranges += [("open", "shut", False, True), ("shut", "high", form.window, False)]
    for start, end, hidden, inside in ranges:
        body = [
            f"queries = {loaded('q', 'ROWS', 'row', 'N', inside, loads)}",
            f"gradient = {loaded('dy', 'ROWS', 'row', 'N', inside, loads)}",
            *rows_read(scores, "[None, :]"),
            f"s = {product('keys', 'tl.trans(queries)', scores)}",
            *weights_again(scores, hidden, transposed=True),
            f"acc_v = {product(f'{share_of(scores)}.to(q.dtype.element_ty)', 'gradient', scores, 'acc_v')}",
            f"dw = {product('values', 'tl.trans(gradient)', scores)}",
            *slopes_of(scores, hidden),
            f"acc_k = {product('ds.to(q.dtype.element_ty)', 'queries', scores, 'acc_k')}",
        ]
        lines += loop("row", start, end, "ROWS", body)
    return lines
