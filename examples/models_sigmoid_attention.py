"""Sigmoid attention (arXiv 2409.04431): a vision transformer and a language model, plain torch.

    python examples/models_sigmoid_attention.py [--quick | --verify]

Each query weighs each key by itself, by sigmoid(q k / sqrt(d) + b) with b = -log n for n keys.
"""

from __future__ import annotations

import math

import torch
from measure import arguments, show
from torch import nn


class SigmoidAttention(nn.Module):
    """Attention of several heads; a causal one takes the keys up to each query."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, width = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads) - math.log(n)
        scores = scores + torch.full((n, n), -math.inf).triu(1) if self.causal else scores
        return self.out((torch.sigmoid(scores) @ v).transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Pre-norm attention and perceptron."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.attention = SigmoidAttention(width, heads, causal)
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.hidden(self.norms[1](x))


class SigmoidViT(nn.Module):
    """Classifies images by their patches."""

    def __init__(self, size: int = 224, width: int = 384, heads: int = 6, layers: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.place = nn.Parameter(torch.randn(1, (size // 16) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 100)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(patches + self.place)).mean(1))


class SigmoidLM(nn.Module):
    """Predicts tokens."""

    def __init__(self, tokens: int = 4096, n: int = 1024, width: int = 768, heads: int = 12, layers: int = 4):
        super().__init__()
        self.tokens, self.place = nn.Embedding(tokens, width), nn.Embedding(n, width)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=True) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.blocks(self.tokens(ids) + self.place.weight[: ids.shape[1]])))


if __name__ == "__main__":
    quick = (chosen := arguments(__doc__)).quick
    vit, size = (SigmoidViT(32, 16, 2, 1), 32) if quick else (SigmoidViT(), 224)
    lm, n = (SigmoidLM(50, 8, 16, 2, 1), 8) if quick else (SigmoidLM(), 1024)
    show("ViT", vit, (torch.rand(1, 3, size, size),), chosen)
    show("language model", lm, (torch.randint(0, 50, (1, n)),), chosen)
