"""Models whose time is not all in matrix products: a softmax over a large vocabulary, PolyNorm, EvoNorm.

    PolyNorm(x) = w0 n(x^3) + w1 n(x^2) + w2 n(x) + b,  n(u) = u / sqrt(mean(u^2) + eps)
    EvoNormS0(x) = x sigmoid(v x) / sqrt(var_group(x) + eps) * g + b

Sources: arXiv 2411.03884 and arXiv 2004.02967.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import transformers
from torch import nn


class Output(NamedTuple):
    """What these models return."""

    result: torch.Tensor


class SoftmaxHead(nn.Module):
    """Probabilities over a vocabulary at a temperature, as in sampling or in the head of a recommender."""

    def __init__(self, width: int, vocabulary: int, temperature: float = 0.8) -> None:
        super().__init__()
        self.linear, self.temperature = nn.Linear(width, vocabulary, bias=False), temperature

    def forward(self, hidden: torch.Tensor) -> Output:
        return Output(F.softmax(self.linear(hidden) / self.temperature, dim=-1))


class PolyNorm(nn.Module):
    """The activation of PolyCom models, as they write it."""

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(3) / 3), nn.Parameter(torch.zeros(1))
        self.eps = eps

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight
        return w[0] * self._norm(x**3) + w[1] * self._norm(x**2) + w[2] * self._norm(x) + self.bias


class PolyNormMLP(nn.Module):
    """down(PolyNorm(up(x)))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.activation = PolyNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(x)))


def polynorm_llama(attention: str, hidden: int, **options: object) -> nn.Module:
    """A Llama whose blocks have PolyNorm in the place of the gated unit, as PolyCom's models."""
    config = transformers.LlamaConfig(**options)
    model = transformers.LlamaForCausalLM._from_config(config, attn_implementation=attention)
    for layer in model.model.layers:
        layer.mlp = PolyNormMLP(config.hidden_size, hidden)
    return model


class EvoNormS0(nn.Module):
    """Normalisation and activation in one, over groups of channels."""

    def __init__(self, channels: int, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        shape = (1, channels, 1, 1)
        self.v, self.gain = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.groups, self.eps = groups, eps

    def _deviation(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        grouped = x.reshape(batch, self.groups, channels // self.groups, height, width)
        variance = grouped.var(dim=(2, 3, 4), unbiased=False, keepdim=True)
        return torch.sqrt(variance + self.eps).expand(grouped.shape).reshape(x.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.v * x) / self._deviation(x) * self.gain + self.bias


class EvoNormBlock(nn.Module):
    """A bottleneck block of a ResNet-50 with EvoNorm-S0 in the place of batch norms and ReLUs."""

    def __init__(self, channels: int = 256, inner: int = 64) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.middle = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.expand = nn.Conv2d(inner, channels, 1, bias=False)
        self.norms = nn.ModuleList(EvoNormS0(size) for size in (inner, inner, channels))

    def forward(self, image: torch.Tensor) -> Output:
        x = image
        for layer, norm in zip((self.reduce, self.middle, self.expand), self.norms, strict=True):
            x = norm(layer(x))
        return Output(x + image)
