"""Small models that the passes have something to do with, and how to compile them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tautomer.runtime.torch.backend import tautomer

WIDTH = 16


class Block(nn.Module):
    """A pre-norm residual block with a tanh-GELU, as in GPT-2."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x)), approximate="tanh"))


class Stream(nn.Module):
    """Blocks between an embedding and a last norm: every writer of the stream can be centred."""

    def __init__(self, layers: int = 2, width: int = WIDTH) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 32)
        perturb(self)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def perturb(model: nn.Module) -> nn.Module:
    """Moves every parameter: gains of 1 and biases of 0 hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens(rows: int = 3, seed: int = 0) -> torch.Tensor:
    """Rows of five tokens."""
    return torch.randint(0, 32, (rows, 5), generator=torch.Generator().manual_seed(seed))


def compiled(
    model: Callable[..., Any], then: str = "aot_eager", dynamic: bool | None = None, **options: Any
) -> Any:
    """The model through the backend; what cannot be rewritten is an error unless the test says otherwise."""
    chosen = {"then": then, "strict": True, "norm": "rms", "verify": True, **options}
    return torch.compile(model, backend=tautomer, dynamic=dynamic, options=chosen)


def close(a: torch.Tensor, b: torch.Tensor, roundings: float = 64) -> None:
    """Equal up to a few roundings of the largest element: sums of up to a hundred terms in another order."""
    assert a.dtype == b.dtype and a.shape == b.shape
    unit = torch.finfo(a.dtype).eps * b.abs().max().item()
    assert (a - b).abs().max().item() <= roundings * unit
