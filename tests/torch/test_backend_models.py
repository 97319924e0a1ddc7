"""Models of the transformers library through the backend, in float64: converted norms, outputs, training.

benchmarks.torch_check does this for more models, in more types and with more steps.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from backend_models import compiled
from fx_models import sample
from torch import nn

from benchmarks.conversions import CONVERSIONS
from benchmarks.families import FAMILIES

SAME = 1e-10
"""Five steps in float64: the rounding of two spellings, 1e-15, a thousandfold at most through training."""
STEPS = 5
NAMES = ("gpt2", "vit", "bert")
SIZES = {"batch": 2, "sequence": 6, "source": 6}


def double(name: str) -> tuple[nn.Module, list[torch.Tensor]]:
    model = FAMILIES[name].module("sdpa").double().eval().requires_grad_()
    return model, [x.double() if x.is_floating_point() else x for x in sample(name, SIZES, seed=3)]


def steps(run: Callable[..., torch.Tensor], model: nn.Module, inputs: list[torch.Tensor]) -> list[np.ndarray]:
    """The output of each step of SGD, and the gradients of the first."""
    optimizer, seen, gradients = torch.optim.SGD(model.parameters(), lr=0.05), [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        result = run(*inputs)
        goal = torch.linspace(-1, 1, result.shape[-1], dtype=result.dtype)
        (result - goal).square().mean().backward()
        if step == 0:
            gradients = [p.grad.clone().numpy() for p in model.parameters() if p.grad is not None]
        optimizer.step()
        seen.append(result.detach().numpy())
    return [*seen, *gradients]


def count(lines: list[str]) -> tuple[int, int]:
    norms = [line for line in lines if "LayerNormalization" in line]
    converted = sum("so it is an RMSNormalization" in line for line in norms)
    return converted, converted + sum(line.startswith("missed") for line in norms)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_gradients_and_training(
    name: str, fresh_dynamo: None, caplog: pytest.LogCaptureFixture
) -> None:
    model, inputs = double(name)
    fast = copy.deepcopy(model)
    run: Any = compiled(fast, "eager", verify=False)
    with caplog.at_level(logging.INFO, "tautomer.torch"):
        with torch.no_grad():
            found = [run(*inputs).numpy()]
        assert count(caplog.messages) == CONVERSIONS[name][:2]
        caplog.clear()
        found += steps(run, fast, inputs)
        assert count(caplog.messages) == CONVERSIONS[name][:2]
    with torch.no_grad():
        right = [model(*inputs).numpy()]
    right += steps(model, model, inputs)
    largest = max(np.abs(b).max() for b in right[1 + STEPS :])  # biases of keys have gradients of 0 alone
    for k, (a, b) in enumerate(zip(found, right, strict=True)):
        unit = largest if k > STEPS else np.abs(b).max()
        assert np.abs(a - b).max() <= SAME * unit
    moved = np.abs(right[STEPS] - right[1]).max()
    assert moved > 1e6 * SAME * np.abs(right[1]).max()  # it did train
