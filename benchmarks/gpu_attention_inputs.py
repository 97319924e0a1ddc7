"""What attention is checked and timed on: random tensors, and the result and gradients in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from benchmarks.gpu_case import Place
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.triton.attention_launch import Operands


def dtype_of(place: Place) -> str:
    """What is stored; the interpreter's matrix product knows no bfloat16."""
    return "float32" if place.rehearsal else "bfloat16"


def tensors(
    place: Place, batch: int, heads: int, rows: int, columns: int, head: int, kind: str = ""
) -> dict[str, torch.Tensor]:
    """Fresh random tensors, in memory [B, N, H, d]."""

    def made(length: int) -> torch.Tensor:
        x = torch.randn(batch, length, heads, head, device=place.device)
        return x.to(getattr(torch, kind or dtype_of(place))).transpose(1, 2)

    return {"q": made(rows), "k": made(columns), "v": made(columns), "dy": made(rows)}


def reference(
    form: AttentionForm, operands: Operands, given: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Attention and its gradients in float64."""
    q, k, v = (given[name].double().requires_grad_() for name in ("q", "k", "v"))
    scores = q @ k.mT * operands.scale + operands.bias
    if form.causal:
        rows, columns = scores.shape[-2:]
        later = torch.ones(rows, columns, dtype=torch.bool, device=q.device).triu(columns - rows + 1)
        scores = scores.masked_fill(later, -math.inf)
    result = (torch.sigmoid(scores) if form.score == "sigmoid" else scores.softmax(-1)) @ v
    return result.detach(), torch.autograd.grad(result, (q, k, v), given["dy"].double())
