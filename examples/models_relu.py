"""A step of a language model of OPT's shape (arXiv 2205.01068), whose ReLUs are zero nine times in ten.

    python examples/models_relu.py [--quick | --verify]

One token is read against a cache of keys and values. Biases in front of the ReLUs are set so that one neuron
in ten fires, as in trained models of this kind (arXiv 2310.04564). Of the second matrix of each perceptron
the zeros leave one row in ten to read.
"""

from __future__ import annotations

import math

import torch
from measure import arguments, show
from torch import nn
from torch.nn import functional

SELDOM = 1.2816  # a normal number is larger once in ten times


class Layer(nn.Module):
    """Pre-norm attention on a cache, and a perceptron with a ReLU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        with torch.no_grad():  # what a norm gives has a deviation of 1
            self.fc1.bias.copy_(-SELDOM * self.fc1.weight.norm(dim=1))

    def forward(self, x: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [1, 1, width], past [2, heads, n, d] -> the next x, and the key and value of this one."""
        width = x.shape[-1]
        q, k, v = self.qkv(self.norms[0](x)).view(3, self.heads, 1, -1).unbind(0)
        keys, values = torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)
        scores = q @ keys.transpose(-1, -2) / math.sqrt(width // self.heads)
        mixed = (torch.softmax(scores, -1) @ values).view(1, 1, width)
        x = x + self.out(mixed)
        hidden = functional.relu(self.fc1(self.norms[1](x)))
        return x + self.fc2(hidden), torch.stack((k, v))


class ReluLM(nn.Module):
    """The logits of the next token, and what the cache gets."""

    def __init__(self, tokens: int = 8448, width: int = 2048, heads: int = 32, layers: int = 4) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(tokens, width), nn.Embedding(2048, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)

    def forward(self, ids: torch.Tensor, place: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """ids and place [1, 1], past [layers, 2, heads, n, d]."""
        x, found = self.tokens(ids) + self.places(place), []
        for layer, own in zip(self.layers, past.unbind(0), strict=True):
            x, new = layer(x, own)
            found.append(new)
        return self.head(self.norm(x)), torch.stack(found)


def step_of(model: ReluLM, n: int) -> tuple[torch.Tensor, ...]:
    """A token behind a cache of n others."""
    heads = model.layers[0].heads
    past = torch.randn(len(model.layers), 2, heads, n, model.norm.weight.numel() // heads)
    return torch.tensor([[7]]), torch.tensor([[n]]), past


if __name__ == "__main__":
    quick = (chosen := arguments(__doc__)).quick
    model, n = (ReluLM(50, 128, 4, 1), 8) if quick else (ReluLM(), 128)
    show("step of a language model with ReLUs", model, step_of(model, n), chosen)
