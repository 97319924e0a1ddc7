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

from tautomer.codegen.triton_attention_tiles import Tiling
from tautomer.patterns.attention_form import AttentionForm, attend
from tautomer.runtime.triton import attention
from tautomer.runtime.triton.attention import Operands

# of the largest element: sums of up to 53 numbers in another order, and exponentials within a few ulp; the
# interpreter cuts digits off where a device rounds, of the weights, of ds and of the result
LIMITS = {"float32": 3e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
SMALL = Tiling(16, 32, 4, 2)


class Wide:
    """The mathematics of float64 tensors, with gradients."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def move(self, how: Any, x: torch.Tensor) -> torch.Tensor:
        places = how(np.arange(x.numel()).reshape(x.shape))
        return x.reshape(-1)[torch.from_numpy(np.ascontiguousarray(places))]

    def shape(self, x: torch.Tensor) -> tuple[int, ...]:
        return tuple(x.shape)

    def constant(self, x: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(x)).double()

    def sum(self, x: torch.Tensor, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
        return x.sum(axes, keepdim=keepdims)

    def amax(self, x: torch.Tensor, axes: tuple[int, ...], keepdims: bool) -> torch.Tensor:
        return x.amax(axes, keepdim=keepdims).detach()  # what it shifts by does not matter to the result

    def maximum(self, a: torch.Tensor, b: Any) -> torch.Tensor:
        return torch.maximum(a, torch.as_tensor(b, dtype=a.dtype))

    def exp(self, x: Any) -> torch.Tensor:
        return torch.exp(torch.as_tensor(x))

    def power(self, x: torch.Tensor, power: int) -> torch.Tensor:
        return x**power

    def compare(self, relation: str, a: torch.Tensor, b: Any) -> torch.Tensor:
        assert relation == "=="
        return a == b

    def where(self, condition: Any, a: Any, b: Any) -> torch.Tensor:
        yes, no = (torch.as_tensor(one, dtype=torch.float64) for one in (a, b))
        return torch.where(torch.as_tensor(condition), yes, no)


def run(
    score: str,
    *,
    sizes: tuple[int, ...] = (1, 2, 1, 37, 53, 20, 24),
    tiling: Tiling = SMALL,
    numbers: dict[str, Any] | None = None,
    gradient: str = "",
    gaps: bool = False,
    nothing: bool = False,
    **form_of: Any,
) -> str:
    """One form on random tensors, against its formula.

    Args:
        score: its score function.
        sizes: B, H, G, N, M, d, e.
        tiling: of all kernels.
        numbers: bias, window and so on.
        gradient: "all" for one kernel, "two" for two, or none.
        gaps: whether tensors are transposed, and have gaps between their elements.
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
    y, statistic = attention.attend(form, tiling, operands, q, k, v)
    wide = [one.double().requires_grad_() for one in (q, k, v)]
    exact = formula(form, operands, *wide)
    reason = off(y, exact, form.dtype)
    if gradient and not reason:
        kinds = ("all",) if gradient == "all" else ("queries", "keys")
        tilings = dict.fromkeys(kinds, tiling)
        given = (q, k, v, dy, None if statistic is None else y, statistic)
        found = attention.gradients(form, tilings, operands, *given)
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
    beside = operands.tensors
    mask = beside.get("mask")
    given: dict[str, Any] = {
        name: getattr(operands, name) for name in ("scale", "bias", "softcap", "window", "free")
    }
    if mask is not None:
        given["mask"] = mask if form.mask == "boolean" else mask.double()
    if form.lengths:
        given["lengths"] = beside["lengths"].numpy()
    if form.alibi:
        given["slopes"] = beside["slopes"].double()
    if form.sink:
        given["sink"] = beside["sinks"].double()
    return attend(Wide(), form, *qkv, **given)


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


SINGLE_TILE = (1, 1, 1, 16, 32, 16, 16)
CASES: dict[str, dict[str, Any]] = {
    "sigmoid": {"score": "sigmoid", "gradient": "two", "numbers": {"bias": -3.0}},
    "sigmoid, heads in groups": {
        "score": "sigmoid",
        "sizes": (2, 4, 2, 17, 33, 16, 16),
        "gradient": "all",
        "causal": "end",
    },
    "sigmoid, a window": {
        "score": "sigmoid",
        "causal": "start",
        "window": True,
        "numbers": {"window": 7},
        "gradient": "all",
    },
    "sigmoid, one query": {"score": "sigmoid", "sizes": (1, 2, 1, 1, 53, 16, 16), "causal": "end"},
    "sigmoid, one key": {"score": "sigmoid", "sizes": (1, 1, 1, 1, 1, 1, 1), "gradient": "two"},
    "sigmoid, no query": {"score": "sigmoid", "sizes": (1, 2, 1, 0, 5, 16, 16)},
    "sigmoid, no key": {"score": "sigmoid", "sizes": (1, 2, 1, 5, 0, 16, 16), "gradient": "two"},
    "sigmoid, one tile": {"score": "sigmoid", "sizes": SINGLE_TILE, "causal": "end", "gradient": "two"},
    "sigmoid, bfloat16": {"score": "sigmoid", "dtype": "bfloat16", "gradient": "two", "gaps": True},
    "sigmoid, float16": {"score": "sigmoid", "dtype": "float16", "causal": "end", "gradient": "all"},
    "sigmoid, additive": {"score": "sigmoid", "mask": "additive", "gradient": "two"},
    "sigmoid by descriptors": {
        "score": "sigmoid",
        "tiling": Tiling(16, 32, 4, 2, "descriptors", "arithmetic"),
        "sizes": (1, 2, 1, 37, 53, 16, 32),
        "causal": "end",
        "dtype": "float16",
        "gradient": "two",
    },
    "sigmoid, specialised": {
        "score": "sigmoid",
        "tiling": Tiling(16, 32, 4, 2, "specialised"),
        "sizes": (1, 2, 2, 37, 53, 16, 16),
        "gradient": "two",
    },
    "softmax": {"score": "softmax", "gradient": "two", "gaps": True},
    "softmax, rows without keys": {"score": "softmax", "causal": "end", "sizes": (1, 1, 1, 53, 37, 16, 16)},
    "softmax, rows without keys give 0": {
        "score": "softmax",
        "causal": "end",
        "empty": "zero",
        "sizes": (1, 1, 1, 53, 37, 16, 16),
    },
    "softmax, rows without keys give means": {"score": "softmax", "mask": "boolean", "empty": "mean"},
    "softmax, a mask of the lowest number": {"score": "softmax", "mask": "additive", "gradient": "all"},
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
    "softmax1": {"score": "softmax1", "causal": "end", "numbers": {"bias": 0.5}, "gradient": "all"},
    "softmax1, learned": {
        "score": "softmax1",
        "sink": True,
        "alibi": True,
        "softcap": True,
        "numbers": {"softcap": 2.0},
        "gradient": "two",
    },
    "relu": {"score": "relu", "lengths": True, "gradient": "two"},
    "relu2": {"score": "relu2", "mask": "boolean", "gradient": "all"},
    "softplus": {"score": "softplus", "causal": "end", "gradient": "two"},
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
    print(json.dumps(found))
