"""Layers whose constants are rewritten: adapters, bases of KAN layers, gates; written as their authors do."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Lora(nn.Module):
    """x W + b + s (x A) B, with an adapter that was trained."""

    def __init__(self, width: int, rank: int = 16) -> None:
        super().__init__()
        self.base = nn.Linear(width, width)
        self.a, self.b = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
        self.dropout, self.scaling = nn.Dropout(0.1), 16 / math.sqrt(rank)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(self.dropout(x))) * self.scaling


class Spline(nn.Module):
    """B-splines by the recursion of Cox and de Boor, as efficient-kan has them."""

    def __init__(self, width: int, grid: int = 5, degree: int = 3) -> None:
        super().__init__()
        self.degree = degree
        knots = torch.arange(-degree, grid + degree + 1) * (2.0 / grid) - 1.0
        self.register_buffer("grid", knots.expand(width, -1).contiguous())
        self.base = nn.Linear(width, width, bias=False)
        self.spline = nn.Linear(width * (grid + degree), width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        grid, u = self.grid, x.unsqueeze(-1)
        bases = ((u >= grid[:, :-1]) & (u < grid[:, 1:])).to(x.dtype)
        for k in range(1, self.degree + 1):
            left = (u - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)])
            right = (grid[:, k + 1 :] - u) / (grid[:, k + 1 :] - grid[:, 1:-k])
            bases = left * bases[:, :, :-1] + right * bases[:, :, 1:]
        return self.base(functional.silu(x)) + self.spline(bases.flatten(1))


class Gaussians(nn.Module):
    """Gaussians around fixed centres, as FastKAN has them."""

    def __init__(self, width: int, centres: int = 8) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(-2.0, 2.0, centres))
        self.step = 4.0 / (centres - 1)
        self.base, self.spline = nn.Linear(width, width), nn.Linear(width * centres, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        bases = torch.exp(-(((x.unsqueeze(-1) - self.centres) / self.step) ** 2))
        return self.base(functional.silu(x)) + self.spline(bases.flatten(1))


class Relus(nn.Module):
    """Squared products of two ReLUs, as ReLU-KAN has them."""

    def __init__(self, width: int, grid: int = 5, degree: int = 3) -> None:
        super().__init__()
        low = torch.arange(-degree, grid) / grid
        self.low = nn.Parameter(low.expand(width, -1).contiguous())
        self.high = nn.Parameter((low + (degree + 1) / grid).expand(width, -1).contiguous())
        self.scale = 4 * grid**2 / (degree + 1) ** 2
        self.map = nn.Linear(width * (grid + degree), width)

    def forward(self, x: Tensor) -> Tensor:
        u = x.unsqueeze(-1)
        bumps = torch.relu(u - self.low) * torch.relu(self.high - u) * self.scale
        return self.map((bumps * bumps).flatten(1))


class Fourier(nn.Module):
    """A Fourier series for each edge, summed over the edges, with its products written out."""

    def __init__(self, width: int, terms: int = 5) -> None:
        super().__init__()
        self.terms = terms
        self.weights = nn.Parameter(torch.randn(2, width, width, terms) / width)

    def forward(self, x: Tensor) -> Tensor:
        k = torch.arange(1, self.terms + 1).reshape(1, 1, 1, self.terms) * 1.0
        u = x.reshape(-1, 1, x.shape[1], 1)
        cosines = torch.sum(torch.cos(k * u) * self.weights[0:1], (-2, -1))
        return cosines + torch.sum(torch.sin(k * u) * self.weights[1:2], (-2, -1))


class Gate(nn.Module):
    """The gate of Mixtral: softmax, the k largest, their share."""

    def __init__(self, experts: int, chosen: int = 8) -> None:
        super().__init__()
        self.chosen = chosen
        self.gains = nn.Parameter(torch.randn(experts))

    def forward(self, x: Tensor) -> Tensor:
        values, experts = torch.topk(torch.softmax(x, -1), self.chosen, -1)
        return values / values.sum(-1, keepdim=True) * self.gains[experts]
