"""Forms of attention that are checked on a GPU, as torch's operator runs them, with their gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gpu_case import Check, Place, relative
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.torch.attention import score_attention
from tautomer.runtime.torch.attention_meaning import meaning

# a rounding of the result and of the weights; of float32, sums in another order
_LIMITS = {"bfloat16": 1e-2, "float16": 2e-3, "float32": 1e-5}
# B, H, G, N, M, d, e
_PLAIN = (2, 4, 2, 257, 300, 64, 64)
_FORMS: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("bfloat16", (1, 2, 2, 1024, 1024, 128, 128), {"score": "sigmoid", "causal": "end", "bias": -6.0}),
    ("bfloat16", (1, 2, 2, 1000, 1000, 128, 128), {"score": "softmax", "causal": "end"}),
    ("bfloat16", _PLAIN, {"score": "sigmoid", "bias": -5.0}),
    ("bfloat16", _PLAIN, {"score": "softmax", "mask": "boolean", "empty": "zero"}),
    ("bfloat16", _PLAIN, {"score": "softmax", "mask": "additive", "softcap": 5.0}),
    ("bfloat16", _PLAIN, {"score": "softmax", "lengths": True, "slopes": True, "empty": "zero"}),
    ("float16", _PLAIN, {"score": "softmax1", "sink": True, "causal": "end", "window": 33}),
    ("bfloat16", _PLAIN, {"score": "relu2", "causal": "start"}),
    ("bfloat16", _PLAIN, {"score": "softplus", "causal": "end"}),
    ("bfloat16", _PLAIN, {"score": "softplus_reweighted", "causal": "end", "power": 3, "free": 3}),
    ("bfloat16", (2, 3, 3, 130, 65, 80, 40), {"score": "sigmoid", "bias": -4.0}),
    ("bfloat16", (1, 2, 1, 100, 129, 256, 256), {"score": "softmax", "causal": "end"}),
    ("float32", _PLAIN, {"score": "sigmoid", "causal": "end", "bias": -5.0}),
    ("float32", (1, 2, 1, 65, 129, 128, 128), {"score": "softmax", "mask": "additive"}),
    ("bfloat16", (2, 8, 2, 1, 1000, 128, 128), {"score": "softmax", "causal": "end"}),
    ("bfloat16", (1, 2, 2, 1, 1, 64, 64), {"score": "sigmoid"}),
)


def form_checks(place: Place) -> list[Check]:
    """The forms, each with its gradient where it has one."""
    found = []
    for dtype, sizes, options in _FORMS:
        kind = "float32" if place.rehearsal else dtype  # the interpreter's products know no bfloat16
        if place.rehearsal:
            sizes = tuple(min(size, 33) for size in sizes)
        name = " ".join(f"{one}" for one in (*options.values(), dtype, sizes))
        found.append(Check(name, partial(_error, kind, sizes, options, place), 10 * _LIMITS[kind]))
    return found


def _error(dtype: str, sizes: tuple[int, ...], options: dict[str, Any], place: Place) -> float:
    batch, heads, groups, rows, columns, head, value_head = sizes
    kind, device = getattr(torch, dtype), place.device

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device).to(kind).transpose(1, 2)

    q, dy = made(batch, rows, heads, head), made(batch, rows, heads, value_head)
    k, v = made(batch, columns, groups, head), made(batch, columns, groups, value_head)
    numbers = {"scale": head**-0.5, "bias": 0.0, "softcap": None, "window": None, "free": 0}
    given = dict(options)
    if given.get("mask") == "boolean":
        given["mask"] = torch.rand(batch, 1, rows, columns, device=device) < 0.7
    if given.get("mask") == "additive":
        given["mask"] = torch.randn(1, heads, rows, columns, device=device).to(kind)
    if given.pop("lengths", False):
        given["lengths"] = torch.randint(0, columns, (batch,), device=device)
    if given.pop("slopes", False):
        given["slopes"] = torch.rand(heads, device=device) / 8
    if given.pop("sink", False):
        given["sink"] = torch.randn(heads, device=device)
    given = {**numbers, **given}
    trains = given["score"] != "softplus_reweighted"
    form = AttentionForm(
        given["score"],
        mask="" if "mask" not in given else "boolean" if given["mask"].dtype == torch.bool else "additive",
        causal=given.get("causal", ""),
        window=given["window"] is not None,
        lengths="lengths" in given,
        alibi="slopes" in given,
        softcap=given["softcap"] is not None,
        sink="sink" in given,
        empty=given.get("empty", "nan"),
        power=given.get("power", 0),
    )
    numbered = [given[name] or 0 for name in numbers]
    beside = [given.get(name) for name in ("mask", "lengths", "slopes", "sink")]
    own = [one.detach().requires_grad_(trains) for one in (q, k, v)]
    found = score_attention(*own, **given)
    wide = [one.detach().double().requires_grad_(trains) for one in (q, k, v)]
    exact = meaning(form, *wide, *beside, "", *numbered)
    outputs, expected = (found.detach(),), (exact.detach(),)
    if rows == 1:
        with torch.no_grad():
            outputs += (score_attention(q, k, v, **given),)
            expected += (exact.detach(),)
    if trains:
        outputs += torch.autograd.grad(found, own, dy)
        expected += torch.autograd.grad(exact, wide, dy.double())
    return relative(outputs, expected)
