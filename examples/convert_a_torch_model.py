"""Convert the layer norms of a torch model in place, go on training it, and exchange checkpoints.

python examples/convert_a_torch_model.py
"""

from __future__ import annotations

import copy

import torch
from torch import nn

import tautomer.torch


class Block(nn.Module):
    """A pre-norm residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x + mlp(norm(x))."""
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """Tokens in, scores of the next token out; embedding and head are one table."""

    def __init__(self, vocabulary: int = 64, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores."""
        return self.head(self.norm(self.blocks(self.embed(tokens))))


def main() -> None:
    """Prints what was converted, and how far the two models are apart before and after training."""
    torch.manual_seed(0)
    original, tokens = Model(), torch.randint(0, 64, (4, 8))
    model = copy.deepcopy(original)
    report = tautomer.torch.convert(model, example_inputs=tokens)
    print(report)
    print("largest difference:", float((original(tokens) - model(tokens)).detach().abs().max()))

    for each in (original, model):
        optimizer = torch.optim.AdamW(each.parameters(), lr=1e-3)
        if each is model:
            report.keep_centred(model, optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            scores = each(tokens[:, :-1]).flatten(0, 1)
            nn.functional.cross_entropy(scores, tokens[:, 1:].flatten()).backward()
            optimizer.step()
    print("after training both:", float((original(tokens) - model(tokens)).detach().abs().max()))

    plain = Model()
    plain.load_state_dict(model.state_dict())  # a model that was never converted
    print("in a plain model:", float((plain(tokens) - model(tokens)).detach().abs().max()))


if __name__ == "__main__":
    main()
