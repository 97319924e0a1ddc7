"""What a model to export is: its inputs, its wrapper and the operations that it executes.

Weights are random, and every parameter is moved away from its default, since a bias of 0 or a gain of 1
hides a wrong rewrite. The architectures themselves are in `benchmarks.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

VOCABULARY = 100
Tensors = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Input:
    """One input of a model: what it holds and which of its axes may vary.

    Attributes:
        kind: tokens, mask (ones, then zeros to the right) or values (normally distributed).
        shape: sizes, or the name of a size that varies ("batch", "sequence", "source").
    """

    name: str
    kind: str
    shape: tuple[int | str, ...]

    @property
    def axes(self) -> dict[int, str]:
        """The axes that vary, by position."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}

    def sample(self, sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
        """A random valid value with these sizes."""
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)
        if self.kind == "tokens":
            return rng.integers(3, VOCABULARY, shape, dtype=np.int64)
        if self.kind == "values":
            return rng.standard_normal(shape).astype(np.float32)
        lengths = rng.integers(shape[1] // 2, shape[1] + 1, shape[0])
        lengths[0] = shape[1]
        return (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)


class _Call(nn.Module):
    """A model behind plain tensors: positional arguments in, one tensor out, or two."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], result: str, also: str | int) -> None:
        super().__init__()
        self.model, self.names, self.result, self.also = model, names, result, also

    def _call(self, *values: torch.Tensor) -> Tensors:
        output = self.model(**dict(zip(self.names, values, strict=True)))
        result = getattr(output, self.result)
        if isinstance(self.also, int):
            return result, output.hidden_states[self.also]
        return (result, getattr(output, self.also)) if self.also else result


class _Call1(_Call):
    def forward(self, first: torch.Tensor) -> Tensors:
        return self._call(first)


class _Call2(_Call):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> Tensors:
        return self._call(first, second)


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        build: makes the model for an attention implementation, "eager" or "sdpa".
        inputs: what it takes, in order.
        result: the field of the model's output that the exported graph returns.
        expected: how often the torch code executes each operation, worked out from the architecture and
            never from an exported graph; the keys are those of `benchmarks.specs.label`.
        attentions: the attention implementations that transformers has for it.
        also: the field that is a second output of the graph, or the index of a hidden state that is.
    """

    name: str
    build: Callable[[str], nn.Module]
    inputs: tuple[Input, ...]
    result: str
    expected: Mapping[str, int]
    attentions: tuple[str, ...] = ("eager", "sdpa")
    also: str | int = ""

    @property
    def results(self) -> list[str]:
        """The names of the graph's outputs, in order."""
        second = f"hidden_states.{self.also}" if isinstance(self.also, int) else self.also
        return [self.result, second] if second else [self.result]

    def module(self, attention: str, seed: int = 20) -> nn.Module:
        """The perturbed model in evaluation mode; equal seeds give equal weights."""
        torch.manual_seed(seed)
        model = self.build(attention).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
                parameter.requires_grad_(False)
        names = tuple(item.name for item in self.inputs)
        return (_Call1 if len(names) == 1 else _Call2)(model, names, self.result, self.also)

    def sample(self, sizes: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
        """Random valid inputs by name."""
        rng = np.random.default_rng(seed)
        return {item.name: item.sample(sizes, rng) for item in self.inputs}
