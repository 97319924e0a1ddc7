"""A language model with length-scaled softplus attention, re-weighted (LSSAR, arXiv 2501.13428).

    python examples/models_lssar.py [--quick | --verify]

    a = softplus(log d * log i * q k) over the i keys up to a query, q and k of length 1, divided by its sum
    w = max(i a - 1, 0)^p, divided by its sum: keys of less than the average weight count nothing

The first three queries, of whose keys none need be above the average, subtract nothing.
"""

from __future__ import annotations

import math

import torch
from measure import arguments, show
from torch import nn
from torch.nn import functional


class SoftplusAttention(nn.Module):
    """Causal attention of several heads with weights by softplus."""

    def __init__(self, width: int, heads: int, power: int = 3) -> None:
        super().__init__()
        self.heads, self.power = heads, power
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, width = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        keys = torch.arange(1.0, n + 1.0)[:, None]
        offset = torch.where(keys > 3.0, 1.0, 0.0)
        scale = math.log(width // self.heads) * torch.log(keys)
        scores = scale * (functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-1, -2))
        weights = functional.softplus(scores) * torch.ones(n, n).tril()
        weights = weights / weights.sum(-1, keepdim=True)
        weights = torch.relu(keys * weights - offset) ** self.power
        weights = weights / weights.sum(-1, keepdim=True)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, n, width))


class Block(nn.Module):
    """Pre-norm attention and perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = SoftplusAttention(width, heads)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(2))
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.hidden(self.norms[1](x))


class SoftplusLM(nn.Module):
    """Predicts tokens; the scores' length scale stands for positions."""

    def __init__(self, tokens: int = 4096, width: int = 768, heads: int = 12, layers: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.RMSNorm(width, eps=1e-6), nn.Linear(width, tokens, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.blocks(self.tokens(ids))))


if __name__ == "__main__":
    quick = (chosen := arguments(__doc__)).quick
    model, n = (SoftplusLM(50, 16, 2, 1), 8) if quick else (SoftplusLM(), 1024)
    show("language model with LSSAR attention", model, (torch.randint(0, 50, (1, n)),), chosen)
