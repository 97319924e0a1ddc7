"""A module for a while in evaluation mode, and what it computes there as plain tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout, gradients and fused fast paths, which read parameters behind the modules' backs."""
    training = [module for module in model.modules() if module.training]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module in training:
            module.training = True


def outputs_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors that a module gives, by where they are in its result."""
    with evaluating(model):
        result = model(*args, **kwargs)
    return dict(tensors_in(result, ""))


def tensors_in(held: Any, where: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested tuples, lists and mappings, which the outputs of transformers are."""
    if isinstance(held, torch.Tensor):
        yield where or "output", held
    elif isinstance(held, Mapping):
        for key, value in held.items():
            yield from tensors_in(value, f"{where}.{key}".strip("."))
    elif isinstance(held, Sequence) and not isinstance(held, str):
        for index, value in enumerate(held):
            yield from tensors_in(value, f"{where}.{index}".strip("."))


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that follow."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
