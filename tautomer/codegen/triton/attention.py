"""Attention in Triton: a program computes a tile of queries, going over the keys tile by tile.

    exponential   m' = max(m, max x); acc = acc 2^(m - m') + 2^(x - m') v; the same of the sum of 2^(x - m')
    pointwise     acc = acc + f(x) v
    summed        acc = acc + f(x) v; total = total + sum f(x)
    two sweeps    total first, over all keys; then as summed, of the second weight

Tiles in which every query sees every key are gone over in a loop of their own, without a mask. Keys that no
query of a tile sees are not read. Where the mask is causal the longest tiles begin first, so that the last
programs are short.
"""

from __future__ import annotations

import hashlib
from functools import cache

from tautomer.codegen.triton.attention_query_tiles import bounds, tile_of_queries
from tautomer.codegen.triton.attention_scores import Scores
from tautomer.codegen.triton.attention_tiles import (
    CONSTANTS,
    HEADER,
    TYPES,
    Tiling,
    described,
    indented,
    loaded,
    operands,
    positions,
    stored,
    strides,
    tiles_of,
)
from tautomer.patterns.attention.form import AttentionForm

NAME = "attention_forward"
# sizes change from call to call, and no code is better for knowing that one of them is 1 or a multiple of 16
_UNSPECIALISED = """@triton.jit(
    do_not_specialize=["blocks", "H", "group", "N", "M", "shift", "window", "free"]
)"""


@cache
def arguments(form: AttentionForm, tiling: Tiling) -> tuple[tuple[str, str], ...]:
    """The arguments of the kernel before its constants: (name, type), see `tiles_of` for descriptors."""
    element = TYPES[form.dtype]
    found = [(name, f"*{element}") for name in ("q", "k", "v", "y")]
    if Scores(form).divided and form.function.second is None:
        found.append(("statistic", "*fp32"))
    found += [(name, "i32") for name in ("blocks", "H", "group", "N", "M", "shift")]
    found += [(stride, "i32") for name in ("q", "k", "v", "y") for stride in strides(name)]
    return (*found, *operands(Scores(form)), *tiles_of(("q", "k", "v"), tiling))


def forward(form: AttentionForm, tiling: Tiling) -> tuple[str, str]:
    """The kernel: its name, and the module that has it.

    It is launched with blocks * H * B programs, blocks = ceil(N / ROWS). `group` is how many heads share a
    key head; `shift` is M - N, or 0 where `form.causal` is "start". The statistic [B, H, N] is what the
    gradient needs of a row: the base-2 logarithm of the sum of powers, or the sum of weights.
    """
    scores = Scores(form, tiling.sigmoid, tiling.products)
    lines = _located(scores, tiling)
    sweeps = [_Sweep(scores, tiling, "total")] if form.function.second else []
    sweeps.append(_Sweep(scores, tiling, "values"))
    for sweep in sweeps:
        lines += sweep.text()
    lines.append(stored("y", "acc", "ROWS", "row", "N"))
    return kernel_of(NAME, arguments(form, tiling), scores, lines)


def kernel_of(
    name: str, inputs: tuple[tuple[str, str], ...], scores: Scores, lines: list[str]
) -> tuple[str, str]:
    """A kernel's name, which has its content in it, and the module that has it."""
    signature = ", ".join([one for one, _ in inputs] + [f"{one}: tl.constexpr" for one in CONSTANTS])
    text = "\n\n".join(filter(None, (HEADER, scores.helpers(), _UNSPECIALISED)))
    body = "\n".join([f"({signature}):", *indented(lines)])
    named = f"{name}_{hashlib.sha256((text + body).encode()).hexdigest()[:12]}"
    return named, f"{text}\ndef {named}{body}\n"


def _located(scores: Scores, tiling: Tiling) -> list[str]:
    """Which tile a program computes, and which keys it meets."""
    lines = tile_of_queries(scores, ("q", "k", "v", "y"))
    if tiling.loads == "descriptors":
        lines += [
            described("q", "ROWS", "N"),
            described("k", "KEYS", "limit"),
            described("v", "KEYS", "limit"),
        ]
    lines += scores.of_the_call()
    lines.append(f"queries = {loaded('q', 'ROWS', 'row', 'N', False, tiling.loads)}")
    lines += bounds(scores)
    return lines


class _Sweep:
    """One time over the keys.

    Args:
        scores: what stands between the products.
        tiling: how the kernel is cut up.
        goal: "total", the sum of the first weights alone, or "values".
    """

    def __init__(self, scores: Scores, tiling: Tiling, goal: str) -> None:
        self.scores, self.tiling, self.goal = scores, tiling, goal
        self.second = goal == "values" and scores.form.function.second is not None

    def text(self) -> list[str]:
        """Start, loops, and what is done at the end."""
        return [*self._start(), *self._loops(), *self._end()]

    def _start(self) -> list[str]:
        scores = self.scores
        zeros = "tl.zeros([ROWS], tl.float32)"
        lines = [] if self.goal == "total" else ["acc = tl.zeros([ROWS, VALUE_PADDED], tl.float32)"]
        if scores.exponential:
            if not scores.extra:
                return [*lines, f'top = {zeros} + float("-inf")', f"total = {zeros}"]
            return [*lines, f"top = {zeros} + {scores.of_extra()}", f"total = {zeros} + 1.0"]
        if self.second:
            lines += ["by_total = (1.0 / total)[:, None]", *_keys_of_rows(scores)]
        if scores.divided:
            lines.append(f"total = {zeros}")
        return lines

    def _loops(self) -> list[str]:
        scores, tiling = self.scores, self.tiling
        positional = bool(scores.form.causal) or scores.form.window
        # beyond the last key v is 0: only where weights are added up does it matter that there is no key
        tail = positional or scores.divided
        lines = self._loop("low", "open", hidden=True, inside=False) if scores.form.window else []
        if tiling.loads != "pointers" and not tail:
            return self._loop("low", "high", hidden=False, inside=True)
        lines += self._loop("open", "shut", hidden=False, inside=True)
        return lines + self._loop("shut", "high", hidden=tail, inside=False)

    def _loop(self, start: str, end: str, *, hidden: bool, inside: bool) -> list[str]:
        head = f"for key in tl.range({start}, {end}, KEYS, num_stages=STAGES):"
        keys = loaded("k", "KEYS", "key", "limit", inside, self.tiling.loads)
        values = loaded("v", "KEYS", "key", "limit", inside, self.tiling.loads)
        lines = [f"s = {product('queries', f'tl.trans({keys})', self.scores)}"]
        lines += positions(self.scores, hidden)
        lines += self.scores.scores(hidden)
        lines += self.scores.rescaled()
        lines += self.scores.weights(hidden)
        if self.second:
            lines += self.scores.second(hidden)
        if self.scores.divided:
            lines.append("total = total + tl.sum(w, 1)")
        if self.goal == "values":
            lines.append(f"acc = {product('w.to(v.dtype.element_ty)', values, self.scores, 'acc')}")
        return [head, *indented(lines)]

    def _end(self) -> list[str]:
        if self.goal == "total" or not self.scores.divided:
            return []
        form = self.scores.form
        lines = ["queried = row + tl.arange(0, ROWS)"]
        if form.function.second is None:
            value = "tl.where(total == 0.0, float('inf'), top + tl.log2(total))"
            value = value if self.scores.exponential else "total"
            lines += ["place = statistic + (batch * H + head).to(tl.int64) * N + queried"]
            lines += [f"tl.store(place, {value}, mask=queried < N)"]
        if form.empty == "zero":
            lines.append("total = tl.where(total == 0.0, 1.0, total)")
        return [*lines, "acc = acc / total[:, None]"]


def _keys_of_rows(scores: Scores) -> list[str]:
    """Statements for how many keys each row has by position, and the offset of its second weight."""
    form = scores.form
    lines = ["queried = row + tl.arange(0, ROWS)[:, None]"]
    lines.append(
        f"last = {'tl.minimum(queried + shift + 1, limit)' if form.causal else 'queried * 0 + limit'}"
    )
    first = "tl.maximum(queried + shift - window + 1, 0)" if form.window else "0"
    lines.append(f"keys = tl.maximum(last - {first}, 0)")
    return [*lines, "offset = tl.where(keys > free, 1.0, 0.0)", "keys = keys.to(tl.float32)"]


def product(a: str, b: str, scores: Scores, onto: str = "") -> str:
    """A matrix product; float32 is not rounded to the shorter type of the matrix units."""
    precise = f', input_precision="{scores.products}"' if scores.form.dtype == "float32" else ""
    return f"tl.dot({a}, {b}{f', {onto}' if onto else ''}{precise})"
