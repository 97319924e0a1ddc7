"""Models to convert: transformers families in two layers, and a plain stream with everything that matters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # benchmarks/ is not part of the installed package
    sys.path.insert(0, str(ROOT))

from benchmarks.families import FAMILIES  # noqa: E402

torch.set_num_threads(1)  # for models as small as these, threads do nothing but wait for each other

SIZES = {"batch": 2, "sequence": 5, "source": 6}
WIDTH = 24


def family(name: str, attention: str = "sdpa") -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A transformers model with perturbed weights, and inputs by name."""
    found = FAMILIES[name]
    model = found.module(attention).model
    assert isinstance(model, nn.Module)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    inputs = {name: torch.from_numpy(array) for name, array in found.sample(SIZES, seed=1).items()}
    return model, inputs


def result(name: str, output: Any) -> torch.Tensor:
    """The tensor of a family's output that its graph gives."""
    return getattr(output, FAMILIES[name].result)


class Block(nn.Module):
    """A pre-norm residual block."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-3)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.dropout(self.down(torch.tanh(self.up(self.norm(x)))))


class Stream(nn.Module):
    """Blocks between an embedding and a last norm; every writer of the stream can be centred."""

    def __init__(self, *, tied: bool = False, dropout: float = 0.0, width: int = WIDTH) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(32, width), nn.Parameter(torch.zeros(1, 8, width))
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 32, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        perturb(self)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.positions[:, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def perturb(model: nn.Module, size: float = 0.3) -> None:
    """Moves every parameter: gains of 1 and biases of 0 hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def tokens(seed: int = 0) -> torch.Tensor:
    """Rows of five tokens."""
    return torch.randint(0, 32, (3, 5), generator=torch.Generator().manual_seed(seed))


def evaluated(model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """What the model gives outside of training."""
    model.eval()
    with torch.no_grad():
        return model(*inputs)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference in units of the largest element."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / a.abs().max())
