"""Modules with adapters, written as the peft library writes them; weights that are not 0 and 1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Lora(nn.Module):
    """base(x) + B(A(dropout(x))) s for each adapter, cast to its type and back."""

    def __init__(self, base: nn.Linear, *ranks: int, rank_stabilised: bool = False) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict()
        self.lora_B = nn.ModuleDict()
        self.lora_dropout = nn.ModuleDict()
        self.scaling: dict[str, float] = {}
        for index, rank in enumerate(ranks):
            self.lora_A[f"a{index}"] = nn.Linear(base.in_features, rank, bias=False)
            self.lora_B[f"a{index}"] = nn.Linear(rank, base.out_features, bias=False)
            self.lora_dropout[f"a{index}"] = nn.Dropout(0.1)
            self.scaling[f"a{index}"] = 16 / (math.sqrt(rank) if rank_stabilised else rank)

    def forward(self, x: Tensor) -> Tensor:
        result = self.base_layer(x)
        kind = result.dtype
        for name in self.lora_A:
            a, b, dropout = self.lora_A[name], self.lora_B[name], self.lora_dropout[name]
            x = x.to(a.weight.dtype)
            result = self._adapted(result, x, a, b, dropout, self.scaling[name])
        return result.to(kind)

    def _adapted(self, result: Tensor, x: Tensor, a: Any, b: Any, dropout: Any, scaling: float) -> Tensor:
        return result + b(a(dropout(x))) * scaling


class Dora(Lora):
    """(m / n - 1) base(x) + (m / n) s B A x beside it, n the norms of the rows of W + s B A."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__(base, rank)
        self.magnitude = nn.Parameter(torch.rand(base.out_features) + 0.5)

    def _adapted(self, result: Tensor, x: Tensor, a: Any, b: Any, dropout: Any, scaling: float) -> Tensor:
        eye = torch.eye(a.weight.shape[1], dtype=x.dtype)
        delta = b(a(eye)).T
        norm = torch.linalg.norm(self.base_layer.weight + scaling * delta, dim=1)
        scale = (self.magnitude / norm.detach()).view(1, -1)
        rest = result - self.base_layer.bias
        return result + (scale - 1) * rest + scale * b(a(dropout(x))) * scaling


class EmbeddingLora(nn.Module):
    """base[x] + (A^T[x] B^T) s."""

    def __init__(self, base: nn.Embedding, rank: int) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_embedding_A = nn.Parameter(torch.randn(rank, base.num_embeddings))
        self.lora_embedding_B = nn.Parameter(torch.randn(base.embedding_dim, rank))
        self.scaling = 16 / rank

    def forward(self, x: Tensor) -> Tensor:
        after = nn.functional.embedding(x, self.lora_embedding_A.T)
        return self.base_layer(x) + (after @ self.lora_embedding_B.T) * self.scaling


class Ia3(nn.Module):
    """down(l * up(x)), l a gain in front of a linear map, and one behind another."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.key, self.up, self.down = (
            nn.Linear(width, width),
            nn.Linear(width, hidden),
            nn.Linear(hidden, width),
        )
        self.of_key, self.of_hidden = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(hidden))

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x) * self.of_key
        return key * self.down(torch.relu(self.up(x)) * self.of_hidden)


def pissa(base: nn.Linear, rank: int) -> Lora:
    """The largest singular directions in the adapter, the rest in the base."""
    made = Lora(base, rank)
    u, s, v = torch.linalg.svd(base.weight.detach(), full_matrices=False)
    root = torch.sqrt(s[:rank] / made.scaling["a0"])
    with torch.no_grad():
        made.lora_A["a0"].weight.copy_(root[:, None] * v[:rank])
        made.lora_B["a0"].weight.copy_(u[:, :rank] * root)
        delta = made.lora_B["a0"].weight @ made.lora_A["a0"].weight
        base.weight.sub_(made.scaling["a0"] * delta)
    return made
