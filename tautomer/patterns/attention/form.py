"""One form of attention as plain data: what a kernel is written for, and what it computes.

    s[i, j] = cap(q[i] . k[j] * scale) + bias + slope * (j - i - M + N) + mask[i, j]
    cap(s)  = softcap * tanh(s / softcap)
    y[i]    = sum over the keys j that i sees of weight(s[i])[j] * v[j]

q [B, H, N, d], k [B, G, M, d], v [B, G, M, e] -> y [B, H, N, e]; H is a multiple of G, and head h reads the
keys and values of h // (H / G). A term that a form does not have is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tautomer.errors import InputError
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS, ScoreFunction, weights_of

LOWEST = float(np.finfo(np.float32).min)
DTYPES = ("float32", "float16", "bfloat16")

Mask = Literal["", "additive", "boolean"]
Causal = Literal["", "end", "start"]
Empty = Literal["nan", "zero", "mean"]


@dataclass(frozen=True)
class AttentionForm:
    """What does not change from call to call; sizes, strides and numbers come with the call.

    Attributes:
        score: a name in SCORE_FUNCTIONS.
        dtype: of q, k, v and y; sums are in float32 at least.
        head: d; 0 where it is only known when the kernel runs.
        value_head: e, the same.
        mask: "additive" (of the dtype) or "boolean" (true: the key stays); it broadcasts to [B, H, N, M].
        causal: "end": query i sees keys j <= i + M - N, the last query all; "start": j <= i.
        window: query i sees only the last `window` keys up to the one that `causal` ends at (without causal,
            up to i + M - N, and keys after it too): j > i + M - N - window; with "start", j > i - window.
        lengths: only the first lengths[b] keys of a sequence are seen.
        alibi: slopes, one per head in float32.
        softcap: whether scores are capped.
        sink: the score of a key without a value, one per head in float32; of "softmax1" only.
        empty: what a query gives whose weights add up to 0, where they are divided by their sum: "nan", as
            the formula has it; "zero", as torch's scaled_dot_product_attention has it; or "mean", of the
            values of the keys that a boolean mask removes, as if it put the lowest float32 number into their
            scores. Without a division the result is 0.
        power: of the second weight of "softplus_reweighted".
    """

    score: str = "softmax"
    dtype: str = "float32"
    head: int = 0
    value_head: int = 0
    mask: Mask = ""
    causal: Causal = ""
    window: bool = False
    lengths: bool = False
    alibi: bool = False
    softcap: bool = False
    sink: bool = False
    empty: Empty = "nan"
    power: int = 0

    def __post_init__(self) -> None:
        """Raises InputError where the parts do not go together."""
        reason = self._contradiction()
        if reason:
            raise InputError(reason, where=f"attention with {self.score}")

    def _contradiction(self) -> str:
        if self.score not in SCORE_FUNCTIONS:
            return f"there is no such score function; there are {', '.join(SCORE_FUNCTIONS)}"
        if self.dtype not in DTYPES:
            return f"no tensors of {self.dtype}"
        if self.head < 0 or self.value_head < 0:
            return "a head dimension below 0"
        if self.sink and self.function.extra is None:
            return "only softmax1 has a sink"
        if self.empty == "mean" and (self.function.kind != "exponential" or self.mask != "boolean"):
            return "the mean of removed keys is what softmax gives of a boolean mask"
        if (self.function.second is None) == bool(self.power) or self.power < 0:
            return "a power belongs to what is swept twice, and to nothing else"
        return ""

    @property
    def function(self) -> ScoreFunction:
        """The score function."""
        return SCORE_FUNCTIONS[self.score]


@np.errstate(all="ignore")  # as for weights_of
def attend(
    m: Any,
    form: AttentionForm,
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    lengths: NDArray[Any] | None = None,
    slopes: Any = None,
    sink: Any = None,
    scale: float = 1.0,
    bias: float = 0.0,
    softcap: float = 0.0,
    window: int = 0,
    free: int = 0,
) -> Any:
    """Attention by its formula, for any mathematics: the oracle of kernels.

    Args:
        m: the mathematics.
        form: what is computed; the arguments below are there as it says.
        q: [B, H, N, d].
        k: [B, G, M, d].
        v: [B, G, M, e].
        mask: broadcasts to [B, H, N, M]; a boolean array, or a value of the mathematics that is added.
        lengths: [B], whole numbers.
        slopes: [H].
        sink: [H].
        scale: what q k^T is multiplied by.
        bias: what is added to each score.
        softcap: above 0.
        window: how many keys a query sees, at least 1.
        free: queries that see so many keys or fewer have an offset of 0 before the second weight, others 1.
    """
    function = form.function
    heads, kv_heads = m.shape(q)[1], m.shape(k)[1]
    k, v = (m.move(lambda x: np.repeat(x, heads // kv_heads, 1), x) for x in (k, v))
    rows, columns = m.shape(q)[2], m.shape(k)[2]
    scores = m.matmul(q, m.move(lambda x: np.swapaxes(x, -1, -2), k)) * scale
    if form.softcap:
        scores = m.tanh(scores / softcap) * softcap
    scores = scores + bias
    if form.alibi:
        distance = np.arange(columns) - np.arange(rows)[:, None] - (columns - rows)
        scores = scores + m.move(lambda x: x.reshape(-1, 1, 1), slopes) * m.constant(distance)
    if form.mask == "additive":
        scores = scores + mask
    seen = visible(form, rows, columns, lengths, window)
    if form.mask == "boolean":
        scores = m.where(mask, scores, LOWEST if form.empty == "mean" else -np.inf)
    scores = m.where(seen, scores, -np.inf)
    count = seen.sum(-1, keepdims=True)
    weights = weights_of(
        m,
        function,
        scores,
        extra=m.move(lambda x: x.reshape(-1, 1, 1), sink) if form.sink else None,
        keys=m.constant(count),
        offset=m.constant(count > free),
        power=form.power,
        empty_is_zero=form.empty == "zero",
    )
    return m.matmul(weights, v)


def visible(
    form: AttentionForm, rows: int, columns: int, lengths: NDArray[Any] | None = None, window: int = 0
) -> NDArray[np.bool_]:
    """Which keys queries see by their positions: true in [B or 1, 1, N, M]."""
    i, j = np.arange(rows)[:, None], np.arange(columns)
    last = i if form.causal == "start" else i + columns - rows
    seen = np.ones((1, 1, rows, columns), dtype=bool)
    if form.causal:
        seen = seen & (j <= last)
    if form.window:
        seen = seen & (j > last - window)
    if form.lengths:
        assert lengths is not None
        seen = seen & (j < np.asarray(lengths).reshape(-1, 1, 1, 1))
    return seen
