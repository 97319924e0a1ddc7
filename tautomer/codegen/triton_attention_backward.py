"""The gradient of attention in Triton: weights are computed again, so that memory grows with N alone.

    dw = dy v^T        ds = f'(x) dw                                       pointwise
                       ds = w (dw - delta),          w = 2^(x - log2 sum)   exponential
                       ds = f'(x) (dw - delta) / total                     summed
    delta = rowsum(dy * y)        dq = scale ds k        dk = scale ds^T q        dv = w^T dy

One kernel computes dq by tiles of queries and another dk and dv by tiles of keys; both compute the weights,
which makes seven products for each tile. One that did both, with five, would have to add dq to memory in
float32: on an H100 that was slower, and the order of its sums changes from run to run.
A pointwise score function needs neither delta nor a statistic of its rows.
"""

from __future__ import annotations

from functools import cache

from tautomer.codegen.triton_attention import bounds, kernel_of, product
from tautomer.codegen.triton_attention_scores import Scores
from tautomer.codegen.triton_attention_tiles import (
    TYPES,
    Tiling,
    described,
    indented,
    limit,
    loaded,
    located,
    mask_located,
    operands,
    positions,
    stored,
    strides,
    tiles_of,
)
from tautomer.patterns.attention_form import AttentionForm

ROWS_KERNEL, KEYS_KERNEL, DELTA_KERNEL = "attention_of_queries", "attention_of_keys", "attention_delta"


def differentiable(form: AttentionForm) -> str:
    """Why there is no kernel for the gradient of a form; "" if there is one."""
    if form.function.second is not None:
        return "the gradient of what is swept twice has no kernel"
    if form.empty == "mean":
        return "a row without keys has no weights to be computed again"
    return ""


@cache
def arguments(form: AttentionForm, tiling: Tiling, outputs: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The arguments of a kernel before its constants: (name, type), see `tiles_of` for descriptors.

    Args:
        form: what is computed.
        tiling: how the kernel is cut up.
        outputs: dq, or dk and dv.
    """
    tensors = ("q", "k", "v", "dy", *outputs)
    found = [(name, f"*{TYPES[form.dtype]}") for name in tensors]
    if Scores(form).divided:
        found += [("statistic", "*fp32"), ("delta", "*fp32")]
    found += [(name, "i32") for name in ("blocks", "H", "group", "N", "M", "shift")]
    found += [(stride, "i32") for name in tensors for stride in strides(name)]
    return (*found, *operands(Scores(form)), *tiles_of(tensors[:4], tiling))


@cache
def delta_arguments(form: AttentionForm) -> tuple[tuple[str, str], ...]:
    """The arguments of the kernel of delta before its constants: (name, type)."""
    element = f"*{TYPES[form.dtype]}"
    found = [("y", element), ("dy", element), ("delta", "*fp32")]
    found += [(name, "i32") for name in ("blocks", "H", "N", *strides("y"), *strides("dy"))]
    return tuple(found)


def delta(form: AttentionForm) -> tuple[str, str]:
    """(name, module) of the kernel of delta; launched with ceil(N / ROWS) * H * B programs."""
    lines = [
        "program = tl.program_id(0)",
        "head = program // blocks % H",
        "batch = program // blocks // H",
        "row = program % blocks * ROWS",
        located("y"),
        located("dy"),
        f"result = {loaded('y', 'ROWS', 'row', 'N', False, 'pointers')}.to(tl.float32)",
        f"gradient = {loaded('dy', 'ROWS', 'row', 'N', False, 'pointers')}.to(tl.float32)",
        "queried = row + tl.arange(0, ROWS)",
        "place = delta + (batch * H + head).to(tl.int64) * N + queried",
        "tl.store(place, tl.sum(result * gradient, 1), mask=queried < N)",
    ]
    return kernel_of(DELTA_KERNEL, delta_arguments(form), Scores(form), lines)


def of_queries(form: AttentionForm, tiling: Tiling) -> tuple[str, str]:
    """(name, module) of the kernel of dq; launched with ceil(N / ROWS) * H * B programs."""
    scores = Scores(form, tiling.sigmoid, tiling.products)
    lines = [
        "program = tl.program_id(0)",
        f"block = {'blocks - 1 - ' if form.causal else ''}program % blocks",
        "head = program // blocks % H",
        "batch = program // blocks // H",
        "kv_head = head // group",
        "row = block * ROWS",
        *map(located, ("q", "k", "v", "dy", "dq")),
        *([mask_located()] if form.mask else []),
        limit(scores),
    ]
    if tiling.loads == "descriptors":
        lines += [described("q", "ROWS", "N"), described("dy", "ROWS", "N")]
        lines += [described("k", "KEYS", "limit"), described("v", "KEYS", "limit")]
    lines += scores.of_the_call()
    lines += [f"queries = {loaded('q', 'ROWS', 'row', 'N', False, tiling.loads)}"]
    lines += [f"gradient = {loaded('dy', 'ROWS', 'row', 'N', False, tiling.loads)}"]
    lines += _of_rows(scores, "[:, None]")
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
            *_weights(scores, hidden, transposed=False),
            f"dw = {product('gradient', 'tl.trans(values)', scores)}",
            *_slopes(scores, hidden),
            f"acc = {product('ds.to(q.dtype.element_ty)', 'keys', scores, 'acc')}",
        ]
        lines += _loop("key", start, end, "KEYS", body)
    lines.append(stored("dq", "acc * scale", "ROWS", "row", "N"))
    return kernel_of(ROWS_KERNEL, arguments(form, tiling, ("dq",)), scores, lines)


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
    return kernel_of(KEYS_KERNEL, arguments(form, tiling, ("dk", "dv")), scores, lines)


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
            *_of_rows(scores, "[None, :]"),
            f"s = {product('keys', 'tl.trans(queries)', scores)}",
            *_weights(scores, hidden, transposed=True),
            f"acc_v = {product(f'{_share(scores)}.to(q.dtype.element_ty)', 'gradient', scores, 'acc_v')}",
            f"dw = {product('values', 'tl.trans(gradient)', scores)}",
            *_slopes(scores, hidden),
            f"acc_k = {product('ds.to(q.dtype.element_ty)', 'queries', scores, 'acc_k')}",
        ]
        lines += _loop("row", start, end, "ROWS", body)
    return lines


def _of_rows(scores: Scores, shape: str) -> list[str]:
    """Statements that read what the forward pass left of each row; a row beyond the last gets no weights."""
    if not scores.divided:
        return []
    nothing = "float('inf')" if scores.exponential else "1.0"
    lines = [
        "queried = row + tl.arange(0, ROWS)",
        "place = (batch * H + head).to(tl.int64) * N + queried",
        f"of_row = tl.load(statistic + place, mask=queried < N, other={nothing}){shape}",
        f"of_delta = tl.load(delta + place, mask=queried < N, other=0.0){shape}",
    ]
    if not scores.exponential:
        of_nothing = "0.0" if scores.form.empty == "zero" else "1.0 / of_row"
        lines.append(f"by_total = tl.where(of_row == 0.0, {of_nothing}, 1.0 / of_row)")
    return lines


def _weights(scores: Scores, hidden: bool, transposed: bool) -> list[str]:
    """Statements that make w of s."""
    lines = [*positions(scores, hidden, transposed), *scores.scores(hidden)]
    if scores.exponential:
        lines.append("x = x - of_row")
    return lines + scores.weights(hidden)


def _slopes(scores: Scores, hidden: bool) -> list[str]:
    """Statements that make ds of w and dw."""
    lines = []
    if scores.divided:
        lines.append(f"dw = {'dw - of_delta' if scores.exponential else '(dw - of_delta) * by_total'}")
    return lines + scores.slopes(hidden)


def _share(scores: Scores) -> str:
    """The text of the weights that the values were added with."""
    return "(w * by_total)" if scores.divided and not scores.exponential else "w"


def _loop(name: str, start: str, end: str, step: str, body: list[str]) -> list[str]:
    return [f"for {name} in tl.range({start}, {end}, {step}, num_stages=STAGES):", *indented(body)]
