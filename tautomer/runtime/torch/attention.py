"""Attention with any score function, called from Python.

y = tautomer.torch.score_attention(q, k, v, "sigmoid", bias=-math.log(n), causal="end")
"""

from __future__ import annotations

import torch

from tautomer.errors import InputError
from tautomer.patterns.attention.form import DTYPES, AttentionForm, Causal, Empty
from tautomer.patterns.attention.operators import form_text
from tautomer.runtime.torch import attention_cuda
from tautomer.runtime.torch.attention_library import attach
from tautomer.runtime.torch.attention_meaning import meaning
from tautomer.runtime.torch.attention_rules import overload


def score_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    score: str = "softmax",
    *,
    mask: torch.Tensor | None = None,
    causal: Causal = "",
    window: int | None = None,
    lengths: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    sink: torch.Tensor | None = None,
    scale: float | None = None,
    bias: float = 0.0,
    softcap: float | None = None,
    empty: Empty = "nan",
    power: int = 0,
    free: int = 0,
) -> torch.Tensor:
    """Attention by a tiled kernel that never stores the scores; by torch's operators where there is none.

    Args:
        q: [batch, heads, queries, d], of any strides.
        k: [batch, kv_heads, keys, d].
        v: [batch, kv_heads, keys, e].
        score: a name of patterns.score_functions.
        mask: broadcasts to [batch, heads, queries, keys]; boolean (true: the key stays), or of the type of q
            and added. It gets no gradient by a kernel.
        causal: "end": query i sees keys up to i + keys - queries; "start": up to i.
        window: how many keys a query sees up to there.
        lengths: [batch], int64: the keys that there are.
        slopes: [heads], float32, of ALiBi.
        sink: [heads], float32, the score of a key without a value; with "softmax1".
        scale: of q k^T; None for d^-1/2.
        bias: is added to each score.
        softcap: above 0.
        empty: see patterns.attention_form.
        power, free: of "softplus_reweighted", see there.

    Returns:
        [batch, heads, queries, e], of the type of q. Gradients are by a kernel, with memory in proportion to
        the queries, for softmax and sigmoid without a soft cap, and on a GPU for all but what is swept
        twice; for all others the scores are stored.

    Raises:
        InputError: no such score function or combination.
        RuntimeError: shapes or types do not fit; raised by torch.
    """
    if (softcap is not None and not softcap > 0.0) or (window is not None and window < 1):
        raise InputError("a soft cap is above 0, and a window has a key", where="score_attention")
    dtype = str(_type_that_runs(q)).removeprefix("torch.")
    form = AttentionForm(
        score,
        dtype if dtype in DTYPES else "float32",
        mask="" if mask is None else "boolean" if mask.dtype == torch.bool else "additive",
        causal=causal,
        window=window is not None,
        lengths=lengths is not None,
        alibi=slopes is not None,
        softcap=softcap is not None,
        sink=sink is not None,
        empty=empty,
        power=power,
    )
    numbers = (q.shape[-1] ** -0.5 if scale is None else scale, bias, softcap or 1.0, window or 0, free)
    arguments = (q, k, v, mask, lengths, slopes, sink, form_text(form), *numbers)
    attached = {"cpu": lambda: attach(form), "cuda": lambda: attention_cuda.attach(form, q, v)}
    if dtype not in DTYPES or q.device.type not in attached or attached[q.device.type]():
        return meaning(form, *arguments)
    found: torch.Tensor = overload()(*arguments)
    return found


def _type_that_runs(q: torch.Tensor) -> torch.dtype:
    """The type that q has once autocast has narrowed it; its kernel is the one to be attached."""
    kind = q.device.type
    narrows = kind in ("cpu", "cuda") and q.dtype != torch.float64 and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if narrows else q.dtype


def load_attention(form: AttentionForm) -> None:
    """Makes the operators of attention known to torch, with the kernel of a form; builds it if need be.

    Raises:
        InputError: there is no kernel for it here.
    """
    reason = attach(form)
    if reason:
        raise InputError(f"attention with {form.score} has no kernel here: {reason}", where=form_text(form))
