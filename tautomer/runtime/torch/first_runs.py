"""What kernels for GPUs are tried on in their first run, and what it should give: the definition in float64.

Each function says why kernels are not to be used for tensors like those given, or ""; answers are kept by
what the kernels' code depends on, so asking again costs a look into a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn.functional import linear

from tautomer.codegen.torch.operators import Signature
from tautomer.codegen.triton.attention_tiles import Tiling
from tautomer.codegen.triton.configuration import Configuration
from tautomer.codegen.triton.kernel import triton_kernel
from tautomer.codegen.triton.sparse import dots, join, sums
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.torch.attention_meaning import meaning as meaning_of_attention
from tautomer.runtime.torch.compat import disable_current_modes
from tautomer.runtime.torch.ops_meaning import meaning
from tautomer.runtime.triton import sparse
from tautomer.runtime.triton.attention import attend, attend_one
from tautomer.runtime.triton.attention_gradients import gradients
from tautomer.runtime.triton.attention_launch import Operands
from tautomer.runtime.triton.device import device_here
from tautomer.runtime.triton.first_run import Pair, first_run
from tautomer.runtime.triton.launch import chosen_for, run

# How far a result may be off, relative to the largest: a kernel that is wrong is off by more.
OFF = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}
_NUMBER = 0.375  # no default of a parameter
_NUMBERS: dict[str, Any] = {"scale": 0.3, "bias": -0.75, "softcap": 2.0, "window": 40, "free": 3}


def of_rows(signature: Signature, x: torch.Tensor) -> str:
    """Of an operator over rows or elements."""
    columns = x.shape[-1] if signature.program.rows else 1
    if not _is_here(x) or not isinstance(columns, int):
        return ""
    chosen = chosen_for(signature.program, x)
    return "" if chosen is None else _of_rows(signature, chosen, columns, _dtype(x), x.device)


@cache
def _of_rows(
    signature: Signature, chosen: Configuration, columns: int, dtype: str, device: torch.device
) -> str:
    # what the compiler specialises on
    sixteens = columns % 16 == 0 if signature.program.rows else True
    key = (triton_kernel(signature.program, chosen.form).name, chosen, dtype, sixteens)
    return _asked(signature.name, key, dtype, device, rows_trial(signature, chosen, columns, dtype))


def rows_trial(
    signature: Signature, chosen: Configuration, columns: int, dtype: str
) -> Callable[[], Sequence[Pair]]:
    """Some tiles and a part of one."""

    def compute() -> Sequence[Pair]:
        random = torch.Generator().manual_seed(0)
        rows = 2 * max(1, chosen.rows) + 1
        shape = (rows, columns) if signature.program.rows else (2 * chosen.block + 1,)
        given = [
            _normal(random, dtype, *(shape[-1:] if kind == "row" else shape))
            for kind in ("full", *signature.program.kinds)
        ]
        numbers = [_NUMBER for _ in signature.program.parameters]
        found = run(signature.program, given, numbers, chosen=chosen)
        exact = meaning(signature)(*(one.double() for one in given), *numbers)
        return list(zip(found, exact if isinstance(exact, tuple) else (exact,), strict=True))

    return compute


def of_sparse(h: torch.Tensor, rows: int) -> str:
    """Of sparse linear maps of so many rows."""
    return _of_sparse(rows, _dtype(h), h.device) if _is_here(h) else ""


@cache
def _of_sparse(rows: int, dtype: str, device: torch.device) -> str:
    key = (sums(rows)[0], dots(rows, True, dtype)[0], join(True)[0], dtype)
    return _asked("a sparse linear map", key, dtype, device, sparse_trial(rows, dtype))


def sparse_trial(rows: int, dtype: str) -> Callable[[], Sequence[Pair]]:
    """A gated layer, which takes all of the kernels."""

    def compute() -> Sequence[Pair]:
        random = torch.Generator().manual_seed(0)
        neurons, outputs, inputs = 160, 272, 48
        x, up, c = (_normal(random, dtype, *one) for one in ((rows, inputs), (neurons, inputs), (neurons,)))
        gate = _normal(random, dtype, rows, neurons).relu()
        weight, b = _normal(random, dtype, neurons, outputs), _normal(random, dtype, outputs)
        found = sparse.sparse_gated_linear(x, gate, up, c, weight, b, torch.tensor(True))
        hidden = gate.double() * linear(x.double(), up.double(), c.double())
        return [(found, linear(hidden, weight.double().t(), b.double()))]

    return compute


@dataclass(frozen=True)
class Way:
    """How attention runs on some tensors.

    Attributes:
        tilings: of the kernels: of "forward", or of "one", or of "forward", "queries" and "keys".
        gaps: whether the tensors are unaligned, and their elements apart.
    """

    tilings: tuple[tuple[str, Tiling], ...]
    gaps: bool = False


def of_attention(form: AttentionForm, ways: Sequence[Way], q: torch.Tensor, v: torch.Tensor) -> str:
    """Of attention, in all ways together."""
    if not _is_here(q):
        return ""
    return _of_attention(form, tuple(ways), q.shape[-1], v.shape[-1], q.shape[1] != v.shape[1], q.device)


@cache
def _of_attention(
    form: AttentionForm, ways: tuple[Way, ...], head: int, width: int, grouped: bool, device: torch.device
) -> str:
    def compute() -> Sequence[Pair]:
        return [pair for way in ways for pair in attention_trial(form, way, head, width, grouped)()]

    key = ("attention", 2, form, ways, head, width, grouped)
    return _asked(f"attention with {form.score}", key, form.dtype, device, compute)


def attention_trial(
    form: AttentionForm, way: Way, head: int, width: int, grouped: bool
) -> Callable[[], Sequence[Pair]]:
    """Some tiles and a part of one, forward and backward, or of one query."""
    tilings = dict(way.tilings)

    def made(random: torch.Generator, *shape: int) -> torch.Tensor:
        if not way.gaps:
            return _normal(random, form.dtype, *shape)
        batch, heads, rows, columns = shape
        return _normal(random, form.dtype, batch, rows, heads, 2 * columns + 1).transpose(1, 2)[..., 1::2]

    def compute() -> Sequence[Pair]:
        random = torch.Generator().manual_seed(0)
        one = tilings.get("one")
        rows = 1 if one else 2 * tilings["forward"].rows + 1
        columns = 5 * one.keys + 1 if one else 2 * tilings["forward"].keys + 1
        heads = 2 if grouped else 1
        q = made(random, 1, heads, rows, head)
        k, v = (made(random, 1, 1, columns, size) for size in (head, width))
        tensors: dict[str, Any] = {}
        if form.mask:
            mask = _normal(random, form.dtype, 1, 1, rows, columns)
            tensors["mask"] = mask if form.mask == "additive" else mask > -0.7
        if form.lengths:
            tensors["lengths"] = torch.tensor([columns - 3], dtype=torch.int32)
        if form.alibi:
            tensors["slopes"] = torch.full((heads,), 0.25)
        if form.sink:
            tensors["sinks"] = torch.randn(heads, generator=random)
        operands = Operands(**_NUMBERS, tensors=tensors)
        wide = [each.double().requires_grad_() for each in (q, k, v)]
        named = [tensors.get(name) for name in ("mask", "lengths", "slopes", "sinks")]
        with torch.enable_grad():
            exact = meaning_of_attention(form, *wide, *named, "", *_NUMBERS.values())
        if one:
            return [(attend_one(form, one, operands, q, k, v), exact.detach())]
        y, statistic = attend(form, tilings["forward"], operands, q, k, v)
        pairs = [(y, exact.detach())]
        if "keys" in tilings:
            dy = made(random, *y.shape)
            found = gradients(form, tilings, operands, q, k, v, dy, y, statistic)
            pairs += list(zip(found, torch.autograd.grad(exact, wide, dy.double()), strict=True))
        return pairs

    return compute


def _asked(
    what: str, key: tuple[Any, ...], dtype: str, device: torch.device, compute: Callable[[], Sequence[Pair]]
) -> str:
    """The answer; tensors are real ones of the CPU, whatever is being traced or is the default."""
    index = device.index or 0
    told = f"{key!r} {device_here(index).fingerprint}"
    with disable_current_modes(), torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
        return first_run(f"{what} of {dtype}", told, f"cuda:{index}", compute, off=OFF[dtype])


def _is_here(x: torch.Tensor) -> bool:
    return x.device.type == "cuda" and torch.cuda.is_available()


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _normal(random: torch.Generator, dtype: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=random).to(getattr(torch, dtype))
