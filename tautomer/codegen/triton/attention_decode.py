"""Attention of one query in Triton: a long cache is read once, by as many programs as the device can hold.

A program takes the keys of one part and all heads that share them, which make the rows of its tile. It leaves

    top = max x,    total = sum 2^(x - top),    acc = sum 2^(x - top) v

of its part, or sums of weights where nothing is shifted; a second kernel joins the parts, exactly:

    y = sum(acc 2^(top - max top)) / sum(total 2^(top - max top))
"""

from __future__ import annotations

from functools import cache

from tautomer.codegen.triton.attention import kernel_of, product
from tautomer.codegen.triton.attention_scores import Scores
from tautomer.codegen.triton.attention_tiles import (
    TYPES,
    Tiling,
    indented,
    limit,
    loaded,
    located,
    operands,
    strides,
)
from tautomer.patterns.attention.form import AttentionForm

NAME, JOIN = "attention_of_one", "attention_joined"
_INPUTS = ("q", "k", "v")


@cache
def arguments(form: AttentionForm) -> tuple[tuple[str, str], ...]:
    """The arguments before the constants: (name, type); `part` has VALUE numbers, `tops` and `totals` one."""
    found = [(name, f"*{TYPES[form.dtype]}") for name in _INPUTS]
    found += [(name, "*fp32") for name in ("part", *(("tops", "totals") if Scores(form).divided else ()))]
    found += [(name, "i32") for name in ("blocks", "H", "group", "M", "shift")]
    found += [(stride, "i32") for name in _INPUTS for stride in strides(name)]
    return (*found, *operands(Scores(form)))


def decode(form: AttentionForm, tiling: Tiling) -> tuple[str, str]:
    """(name, module) of the kernel; launched with blocks * G * B programs, `blocks` the number of parts."""
    scores = Scores(form, tiling.sigmoid, tiling.products)
    divided = scores.divided
    lines = [
        "N = 1",
        "i = 0",
        "program = tl.program_id(0)",
        "block = program % blocks",
        "kv_head = program // blocks % (H // group)",
        "batch = program // blocks // (H // group)",
        "head = kv_head * group",
        "member = tl.arange(0, ROWS)",
        *map(located, _INPUTS),
        limit(scores),
        *scores.of_the_call(heads="head + member", there="member < group"),
        "queries = load_tile(q_rows, head * 0, group, q_head, q_step, ROWS, HEAD, HEAD_PADDED, False)",
    ]
    if form.mask:
        lines.append("mask_rows = mask + batch.to(tl.int64) * mask_batch")
        lines.append("mask_rows += tl.minimum(head + member, H - 1).to(tl.int64)[:, None] * mask_head")
    lines += [f"high = {'tl.minimum(limit, shift + 1)' if form.causal else 'limit'}"]
    lines += [f"low = {'tl.maximum(shift - window + 1, 0)' if form.window else '0'}"]
    lines += [
        "share = tl.cdiv(tl.cdiv(tl.maximum(high - low, 0), KEYS), blocks) * KEYS",
        "start = low + block * share",
        "end = tl.minimum(high, start + share)",
        "acc = tl.zeros([ROWS, VALUE_PADDED], tl.float32)",
    ]
    lines += ["total = tl.zeros([ROWS], tl.float32)"] if divided else []
    lines += ['top = tl.zeros([ROWS], tl.float32) + float("-inf")'] if scores.exponential else []
    keys, values = (loaded(name, "KEYS", "key", "end", False, "pointers") for name in ("k", "v"))
    body = [
        f"s = {product('queries', f'tl.trans({keys})', scores)}",
        "j = (key + tl.arange(0, KEYS))[None, :]",
        "seen = j < end",
    ]
    if form.mask:
        body.append("masked = tl.load(mask_rows + tl.minimum(j, M - 1) * mask_key)")
    body += scores.scores(divided)
    body += scores.rescaled()
    body += scores.weights(divided)
    body += ["total = total + tl.sum(w, 1)"] if divided else []
    body.append(f"acc = {product('w.to(v.dtype.element_ty)', values, scores, 'acc')}")
    lines += ["for key in tl.range(start, end, KEYS, num_stages=STAGES):", *indented(body)]
    lines += [
        "place = (batch * H + head + member).to(tl.int64) * blocks + block",
        "column = tl.arange(0, VALUE_PADDED)",
        "inside = (member < group)[:, None] & (column < VALUE)[None, :]",
        "tl.store(part + place[:, None] * VALUE + column[None, :], acc, mask=inside)",
    ]
    if divided:
        lines.append("tl.store(totals + place, total, mask=member < group)")
        lines.append(
            f"tl.store(tops + place, {'top' if scores.exponential else 'total'}, mask=member < group)"
        )
    return kernel_of(NAME, arguments(form), scores, lines)


@cache
def joined_arguments(form: AttentionForm) -> tuple[tuple[str, str], ...]:
    """The arguments of the second kernel before its constants; ROWS is the number of parts, padded."""
    found = [("y", f"*{TYPES[form.dtype]}"), ("part", "*fp32")]
    found += [("tops", "*fp32"), ("totals", "*fp32")] if Scores(form).divided else []
    found += [(name, "i32") for name in ("blocks", "H", *strides("y"))]
    return (*found, *((("sinks", "*fp32"),) if form.sink else ()))


def joined(form: AttentionForm) -> tuple[str, str]:
    """(name, module) of the kernel that joins the parts; launched with H * B programs."""
    scores = Scores(form)
    lines = [
        "program = tl.program_id(0)",
        "head = program % H",
        "batch = program // H",
        "block = tl.arange(0, ROWS)",
        "place = program.to(tl.int64) * blocks + block",
        "column = tl.arange(0, VALUE_PADDED)",
        "inside = (block < blocks)[:, None] & (column < VALUE)[None, :]",
        "acc = tl.load(part + place[:, None] * VALUE + column[None, :], mask=inside, other=0.0)",
    ]
    if scores.divided:
        lines.append("total = tl.load(totals + place, mask=block < blocks, other=0.0)")
    if scores.exponential:
        lines.append('top = tl.load(tops + place, mask=block < blocks, other=float("-inf"))')
        lines.append("base = tl.max(top, 0)")
        if scores.extra:
            lines += [f"extra = {scores.of_extra()}", "base = tl.maximum(base, extra)"]
        lines.append('base = tl.where(base == float("-inf"), 0.0, base)')
        lines += ["shrunk = tl.exp2(top - base)", "total = total * shrunk", "acc = acc * shrunk[:, None]"]
    lines.append("result = tl.sum(acc, 0)")
    if scores.divided:
        lines.append(f"whole = tl.sum(total, 0){' + tl.exp2(extra - base)' if scores.extra else ''}")
        if form.empty == "zero":
            lines.append("whole = tl.where(whole == 0.0, 1.0, whole)")
        lines.append("result = result / whole")
    lines.append("y_at = y + batch.to(tl.int64) * y_batch + head.to(tl.int64) * y_head + column * y_step")
    lines.append("tl.store(y_at, result.to(y.dtype.element_ty), mask=column < VALUE)")
    return kernel_of(JOIN, joined_arguments(form), scores, lines)
