"""Attention kernels in Triton's interpreter: prints what they are off by, as JSON: name -> reason or "".

A program of its own, because `triton.jit` looks at TRITON_INTERPRET when triton is imported.
"""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from tautomer.codegen.triton.attention_tiles import Tiling
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.torch import attention_cuda
from tautomer.runtime.torch.attention_meaning import meaning
from tautomer.runtime.triton.attention import attend, attend_one
from tautomer.runtime.triton.attention_gradients import gradients
from tautomer.runtime.triton.attention_launch import Operands, empty_like_rows

# of the largest element: sums of up to 53 numbers in another order, and exponentials within a few ulp; the
# interpreter cuts digits off where a device rounds, of the weights, of ds and of the result
LIMITS = {"float32": 3e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
SMALL = Tiling(16, 32, 4, 2)


def run(
    score: str,
    *,
    sizes: tuple[int, ...] = (1, 2, 1, 37, 53, 20, 24),
    tiling: Tiling = SMALL,
    numbers: dict[str, Any] | None = None,
    gradient: bool = False,
    gaps: bool = False,
    nothing: bool = False,
    one: bool = False,
    **form_of: Any,
) -> str:
    """One form on random tensors, against its formula.

    Args:
        score: its score function.
        sizes: B, H, G, N, M, d, e.
        tiling: of all kernels.
        numbers: bias, window and so on.
        gradient: whether gradients are computed too.
        gaps: whether tensors are transposed, and have gaps between their elements.
        one: whether a single query is spread over parts of the keys.
        nothing: whether the first sequence has no key at all.
        form_of: the rest of the form.
    """
    torch.manual_seed(0)
    form = AttentionForm(score, **form_of)
    b, h, g, n, m, d, e = sizes
    kind = getattr(torch, form.dtype)
    q, k, v, dy = (
        tensor(kind, gaps, *shape) for shape in ((b, h, n, d), (b, g, m, d), (b, g, m, e), (b, h, n, e))
    )
    beside: dict[str, torch.Tensor] = {}
    if form.mask == "boolean":
        beside["mask"] = torch.rand(b, 1, n, m) < 0.6
        beside["mask"][:, :, n // 2] = False
    if form.mask == "additive":
        beside["mask"] = torch.randn(1, h, n, m).to(kind)
        beside["mask"][..., ::3] = torch.finfo(kind).min
        beside["mask"][..., 1::3] = -math.inf
    if form.lengths:
        beside["lengths"] = torch.arange(b, dtype=torch.int32) * m if nothing else torch.full((b,), m - 20)
        beside["lengths"] = beside["lengths"].int()
    if form.alibi:
        beside["slopes"] = torch.rand(h) / 4
    if form.sink:
        beside["sinks"] = torch.randn(h)
    operands = Operands(scale=d**-0.5, tensors=beside, **(numbers or {}))
    if one:
        y, statistic = attend_one(form, tiling, operands, q, k, v), None
    else:
        y, statistic = attend(form, tiling, operands, q, k, v)
    wide = [one.double().requires_grad_() for one in (q, k, v)]
    exact = formula(form, operands, *wide)
    reason = off(y, exact, form.dtype)
    if gradient and not reason:
        tilings = dict.fromkeys(("queries", "keys"), tiling)
        given = (q, k, v, dy, None if statistic is None else y, statistic)
        found = gradients(form, tilings, operands, *given)
        wanted = torch.autograd.grad(exact, wide, dy.double())
        for name, one, right in zip(("dq", "dk", "dv"), found, wanted, strict=True):
            reason = reason or (f"{name}: {bad}" if (bad := off(one, right, form.dtype)) else "")
    return reason


def tensor(kind: torch.dtype, gaps: bool, *shape: int) -> torch.Tensor:
    """Random numbers, as [B, N, H, 2 d] with every second element read where there are gaps."""
    if not gaps:
        return torch.randn(shape).to(kind)
    b, h, n, d = shape
    return torch.randn(b, n, h, 2 * d).to(kind).transpose(1, 2)[..., ::2]


def formula(form: AttentionForm, operands: Operands, *qkv: torch.Tensor) -> torch.Tensor:
    """The result by definition."""
    beside = [operands.tensors.get(name) for name in ("mask", "lengths", "slopes", "sinks")]
    numbers = (operands.scale, operands.bias, operands.softcap, operands.window, operands.free)
    return meaning(form, *qkv, *beside, "", *numbers)


def off(found: torch.Tensor, exact: torch.Tensor, dtype: str) -> str:
    """How far a result is off, relative to its largest element; NaN is where it should be."""
    a, b = found.double(), exact.detach()
    if a.shape != b.shape:
        return f"shape {tuple(a.shape)}, not {tuple(b.shape)}"
    if not torch.equal(a.isnan(), b.isnan()):
        return f"{int(a.isnan().sum())} NaN, not {int(b.isnan().sum())}"
    finite = ~b.isnan()
    if not finite.any():
        return ""
    scale = float(b[finite].abs().max())
    error = float((a - b)[finite].abs().max())
    return "" if error <= LIMITS[dtype] * max(scale, 1e-30) else f"off by {error / scale:.1e}"


def operator(score: str) -> str:
    """Whether what the operator of torch gives on a GPU lies in memory as torch is told."""
    form = AttentionForm(score, causal="end")
    q, k, v = (torch.randn(1, n, h, 16).transpose(1, 2) for h, n in ((2, 9), (1, 13), (1, 13)))
    rest = (q, k, v, None, None, None, None, "", 0.25, -2.0, 1.0, 0, 0)
    found, told = attention_cuda.forward(form, *rest), attention_cuda.outputs(form, q, v)
    slopes = attention_cuda.backward(form, found[0], *found, *rest)
    wanted = [empty_like_rows(x, x.shape[-1]) for x in (q, k, v)]
    pairs = [*zip(found, told, strict=True), *zip(slopes, wanted, strict=True)]
    same = all(a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype for a, b in pairs)
    return "" if same else "other strides"


def narrow_products() -> None:
    """The interpreter takes the bits of bfloat16 for whole numbers when it multiplies matrices."""
    multiply = InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        wide = [
            TensorHandle((one.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
            if one.dtype.scalar == tl.bfloat16
            else one
            for one in (a, b)
        ]
        return multiply(self, *wide, *rest)

    InterpreterBuilder.create_dot = create_dot


MANY_KEYS = (2, 6, 2, 1, 300, 20, 24)
SINGLE_TILE = (1, 1, 1, 16, 32, 16, 16)
CASES: dict[str, dict[str, Any]] = {
    "sigmoid": {"score": "sigmoid", "gradient": True, "numbers": {"bias": -3.0}},
    "sigmoid, heads in groups": {
        "score": "sigmoid",
        "sizes": (2, 4, 2, 17, 33, 16, 16),
        "gradient": True,
        "causal": "end",
    },
    "sigmoid, a window": {
        "score": "sigmoid",
        "causal": "start",
        "window": True,
        "numbers": {"window": 7},
        "gradient": True,
    },
    "sigmoid, one query": {"score": "sigmoid", "sizes": (1, 2, 1, 1, 53, 16, 16), "causal": "end"},
    "sigmoid, one key": {"score": "sigmoid", "sizes": (1, 1, 1, 1, 1, 1, 1), "gradient": True},
    "sigmoid, no query": {"score": "sigmoid", "sizes": (1, 2, 1, 0, 5, 16, 16)},
    "sigmoid, no key": {"score": "sigmoid", "sizes": (1, 2, 1, 5, 0, 16, 16), "gradient": True},
    "sigmoid, no sequence": {"score": "sigmoid", "sizes": (0, 2, 1, 5, 5, 16, 16), "gradient": True},
    "one query, no sequence": {"score": "softmax", "one": True, "sizes": (0, 2, 1, 1, 5, 16, 16)},
    "one query, gaps": {"score": "softmax", "one": True, "sizes": (1, 4, 2, 1, 70, 20, 24), "gaps": True},
    "sigmoid, one tile": {"score": "sigmoid", "sizes": SINGLE_TILE, "causal": "end", "gradient": True},
    "sigmoid, bfloat16": {"score": "sigmoid", "dtype": "bfloat16", "gradient": True, "gaps": True},
    "sigmoid, float16": {"score": "sigmoid", "dtype": "float16", "causal": "end", "gradient": True},
    "sigmoid, additive": {"score": "sigmoid", "mask": "additive", "gradient": True},
    "sigmoid by descriptors": {
        "score": "sigmoid",
        "tiling": Tiling(16, 32, 4, 2, "descriptors", "arithmetic"),
        "sizes": (1, 2, 1, 37, 53, 16, 32),
        "causal": "end",
        "dtype": "float16",
        "gradient": True,
    },
    "sigmoid by descriptors of the launch": {
        "score": "sigmoid",
        "tiling": Tiling(16, 32, 4, 2, "parameters"),
        "sizes": (1, 2, 2, 37, 53, 16, 16),
        "gradient": True,
    },
    "softmax": {"score": "softmax", "gradient": True, "gaps": True},
    "softmax, rows without keys": {"score": "softmax", "causal": "end", "sizes": (1, 1, 1, 53, 37, 16, 16)},
    "softmax, rows without keys give 0": {
        "score": "softmax",
        "causal": "end",
        "empty": "zero",
        "sizes": (1, 1, 1, 53, 37, 16, 16),
    },
    "softmax, rows without keys give means": {"score": "softmax", "mask": "boolean", "empty": "mean"},
    "softmax, a mask of the lowest number": {"score": "softmax", "mask": "additive", "gradient": True},
    "softmax, everything": {
        "score": "softmax",
        "mask": "boolean",
        "lengths": True,
        "alibi": True,
        "softcap": True,
        "window": True,
        "empty": "zero",
        "numbers": {"softcap": 2.0, "window": 30},
    },
    "softmax, no length": {
        "score": "softmax",
        "lengths": True,
        "nothing": True,
        "sizes": (2, 1, 1, 17, 33, 16, 16),
    },
    "softmax1": {"score": "softmax1", "causal": "end", "numbers": {"bias": 0.5}, "gradient": True},
    "softmax1, learned": {
        "score": "softmax1",
        "sink": True,
        "alibi": True,
        "softcap": True,
        "numbers": {"softcap": 2.0},
        "gradient": True,
    },
    "one query, sigmoid": {
        "score": "sigmoid",
        "one": True,
        "sizes": MANY_KEYS,
        "causal": "end",
        "numbers": {"bias": -3.0},
    },
    "one query, softmax": {
        "score": "softmax",
        "one": True,
        "sizes": MANY_KEYS,
        "lengths": True,
        "nothing": True,
        "window": True,
        "alibi": True,
        "numbers": {"window": 290},
    },
    "one query, learned": {
        "score": "softmax1",
        "one": True,
        "sizes": MANY_KEYS,
        "sink": True,
        "mask": "boolean",
        "softcap": True,
        "numbers": {"softcap": 2.0},
    },
    "one query, one key": {
        "score": "softplus",
        "one": True,
        "sizes": (1, 1, 1, 1, 1, 16, 16),
        "empty": "zero",
    },
    "one query, no key": {"score": "softmax", "one": True, "sizes": (1, 1, 1, 1, 0, 16, 16), "empty": "zero"},
    "relu": {"score": "relu", "lengths": True, "gradient": True},
    "relu2": {"score": "relu2", "mask": "boolean", "gradient": True},
    "softplus": {"score": "softplus", "causal": "end", "gradient": True},
    "softplus_reweighted": {
        "score": "softplus_reweighted",
        "causal": "end",
        "power": 3,
        "numbers": {"free": 3},
    },
    "softplus_reweighted, a window": {
        "score": "softplus_reweighted",
        "causal": "end",
        "window": True,
        "lengths": True,
        "empty": "zero",
        "power": 2,
        "numbers": {"free": 3, "window": 11},
    },
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the interpreter divides by 0 where rows have no keys
    narrow_products()
    found = {}
    for name, case in CASES.items():
        try:
            found[name] = run(**case)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    for score in ("sigmoid", "softmax"):
        found[f"operator of torch, {score}"] = operator(score)
    print(json.dumps(found))
