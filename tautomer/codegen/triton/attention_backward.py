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

from tautomer.codegen.triton.attention import kernel_of
from tautomer.codegen.triton.attention_scores import Scores
from tautomer.codegen.triton.attention_tiles import (
    TYPES,
    Tiling,
    indented,
    loaded,
    located,
    operands,
    positions,
    strides,
    tiles_of,
)
from tautomer.patterns.attention.form import AttentionForm

NAME = "attention_delta"


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
    return kernel_of(NAME, delta_arguments(form), Scores(form), lines)


def rows_read(scores: Scores, shape: str) -> list[str]:
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


def weights_again(scores: Scores, hidden: bool, transposed: bool) -> list[str]:
    """Statements that make w of s."""
    lines = [*positions(scores, hidden, transposed), *scores.scores(hidden)]
    if scores.exponential:
        lines.append("x = x - of_row")
    return lines + scores.weights(hidden)


def slopes_of(scores: Scores, hidden: bool) -> list[str]:
    """Statements that make ds of w and dw."""
    lines = []
    if scores.divided:
        lines.append(f"dw = {'dw - of_delta' if scores.exponential else '(dw - of_delta) * by_total'}")
    return lines + scores.slopes(hidden)


def share_of(scores: Scores) -> str:
    """The text of the weights that the values were added with."""
    return "(w * by_total)" if scores.divided and not scores.exponential else "w"


def loop(name: str, start: str, end: str, step: str, body: list[str]) -> list[str]:
    """A loop over tiles."""
    return [f"for {name} in tl.range({start}, {end}, {step}, num_stages=STAGES):", *indented(body)]
