"""Attention in torch's own graphs: the spellings that people write are recognised there, too."""

from __future__ import annotations

import math

import torch

from tautomer.runtime.torch import exported

HEADS, DEPTH, LENGTH = 4, 8, 16


class Spellings(torch.nn.Module):
    """One attention after the other, each with another score function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        for weights in (self.sigmoid, self.causal, self.relu, self.softplus, self.one_more):
            q, k, v = (
                part.view(batch, length, HEADS, DEPTH).transpose(1, 2) for part in (x, x.sin(), x.cos())
            )
            scores = q @ k.transpose(-1, -2) / math.sqrt(DEPTH)
            x = (weights(scores) @ v).transpose(1, 2).reshape(batch, length, width)
        return x

    def sigmoid(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(scores - math.log(LENGTH))

    def causal(self, scores: torch.Tensor) -> torch.Tensor:
        later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        return scores.masked_fill(later, float("-inf")).softmax(-1)

    def relu(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.relu(scores) ** 2 / LENGTH

    def softplus(self, scores: torch.Tensor) -> torch.Tensor:
        weights = torch.nn.functional.softplus(scores)
        return weights / weights.sum(-1, keepdim=True)

    def one_more(self, scores: torch.Tensor) -> torch.Tensor:
        top = scores.amax(-1, keepdim=True).clamp(min=0)
        weights = torch.exp(scores - top)
        return weights / (weights.sum(-1, keepdim=True) + torch.exp(-top))


def test_eager_spellings_are_recognised() -> None:
    program = exported.export(Spellings().eval(), (torch.randn(2, LENGTH, HEADS * DEPTH),), None)
    found = [op for op in exported.recognised(program, "exact").operations if op.op == "ScoreAttention"]
    assert [op.attributes["score"] for op in found] == ["sigmoid", "softmax", "relu2", "softplus", "softmax1"]
    assert {op.attributes["q_num_heads"] for op in found} == {HEADS}
