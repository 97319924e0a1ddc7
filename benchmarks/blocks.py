"""Architectures that transformers does not have, as plain modules: DiT blocks and a mixture of experts."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HIDDEN, HEADS, EXPERTS = 32, 64, 4, 4


class Output(NamedTuple):
    """What these models return."""

    result: torch.Tensor


class Attention(nn.Module):
    """Self-attention over tokens, in one of the two spellings."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.attention = attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        split = self.inward(x).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        if self.attention == "sdpa":
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5
            mixed = F.softmax(scores, dim=-1) @ value
        return self.outward(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))


def _bare_norm() -> nn.LayerNorm:
    return nn.LayerNorm(WIDTH, elementwise_affine=False, eps=1e-6)


class Modulation(nn.Module):
    """Some shifts, scales and gates from the conditioning, a vector for each image."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts, self.linear = parts, nn.Linear(WIDTH, parts * WIDTH)

    def forward(self, conditioning: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.linear(conditioning).unsqueeze(1).chunk(self.parts, dim=-1)


class DiTBlock(nn.Module):
    """A block whose norms have no parameters: shift, scale and gate come from the conditioning."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.modulation = Modulation(6)
        self.norm1, self.norm2 = _bare_norm(), _bare_norm()
        self.attention = Attention(attention)
        self.inward, self.outward = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(conditioning)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        inner = self.inward(self.norm2(x) * (1 + scale2) + shift2)
        return x + gate2 * self.outward(F.gelu(inner, approximate="tanh"))


class DiT(nn.Module):
    """Two blocks and the final layer of a diffusion transformer."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.inward = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(DiTBlock(attention) for _ in range(2))
        self.modulation, self.norm = Modulation(2), _bare_norm()
        self.outward = nn.Linear(WIDTH, 16)

    def forward(self, patches: torch.Tensor, conditioning: torch.Tensor) -> Output:
        x = self.inward(patches)
        # Every block of the original has a SiLU of its own on the same vector; exporters merge them.
        conditioning = F.silu(conditioning)
        for block in self.blocks:
            x = block(x, conditioning)
        shift, scale = self.modulation(conditioning)
        return Output(self.outward(self.norm(x) * (1 + scale) + shift))


class Experts(nn.Module):
    """A feed-forward part that adds up all its experts, weighted by a router."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS)
        self.inward = nn.ModuleList(nn.Linear(WIDTH, HIDDEN) for _ in range(EXPERTS))
        self.outward = nn.ModuleList(nn.Linear(HIDDEN, WIDTH) for _ in range(EXPERTS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = F.softmax(self.router(x), dim=-1).split(1, dim=-1)
        experts = zip(weights, self.inward, self.outward, strict=True)
        parts = [weight * outward(F.gelu(inward(x))) for weight, inward, outward in experts]
        return sum(parts[1:], parts[0])


class MoEBlock(nn.Module):
    """A pre-norm layer with experts."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.experts = Attention(attention), Experts()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.experts(self.norm2(x))


class MoE(nn.Module):
    """Two layers with experts and a norm at the end."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.inward = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.Sequential(*(MoEBlock(attention) for _ in range(2)))
        self.norm = nn.LayerNorm(WIDTH)
        self.outward = nn.Linear(WIDTH, 16)

    def forward(self, values: torch.Tensor) -> Output:
        return Output(self.outward(self.norm(self.blocks(self.inward(values)))))
