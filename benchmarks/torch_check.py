"""Whole models through torch.compile(backend="tautomer"): outputs, gradients and training beside eager torch.

    python -m benchmarks.torch_check [--only gpt2] [--then aot_eager]

Two-layer models of the transformers library, random weights. Outputs (float32, bfloat16) and gradients by the
numeric criterion of tautomer.verify.numerics, with the model in float64 as the oracle; 20 training steps with
SGD and AdamW, whose outputs after the last step are compared: in float32 by the criterion, in float64 to
1e-10. Prints one line a model; exit code 1 when anything is off.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn

from benchmarks.families import FAMILIES
from tautomer.runtime.torch.backend import tautomer
from tautomer.verify.classes import moved
from tautomer.verify.numerics import LIMIT, judge

MODELS = ("gpt2", "opt", "pythia", "vit", "bert", "llama", "whisper_encoder", "whisper_decoder", "swin")
SIZES = {"batch": 3, "sequence": 9, "source": 7}
STEPS, CLOSE = 20, 1e-10
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=0.01),
    "adamw": partial(torch.optim.AdamW, lr=1e-3),
}
Inputs = Sequence[torch.Tensor]
Arrays = Mapping[str, np.ndarray]


def converted(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy with float parameters and buffers of this type."""
    return copy.deepcopy(model).to(dtype)


def nudged(model: nn.Module, draw: int) -> nn.Module:
    """A copy in float64 whose parameters are an ulp of their own type away."""
    rng, wide = np.random.default_rng([draw, 1]), converted(model, torch.float64)
    with torch.no_grad():
        for new, old in zip(wide.parameters(), model.parameters(), strict=True):
            whole = old.float().numpy() if old.dtype == torch.bfloat16 else old.numpy()
            step = 2.0**-8 / 2.0**-24 if old.dtype == torch.bfloat16 else 1.0
            new.copy_(torch.from_numpy(whole + step * (moved(whole, rng) - whole)))
    return wide


def outputs(run: Callable[..., Any], model: nn.Module, inputs: Inputs) -> Arrays:
    """What a model gives, without gradients."""
    with torch.no_grad():
        return {"output": run(*inputs).double().numpy()}


def gradients(run: Callable[..., Any], model: nn.Module, inputs: Inputs) -> Arrays:
    """Gradients of a weighted sum of the outputs, by parameter."""
    model.zero_grad()
    result = run(*inputs)
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).reshape(result.shape)
    (result * weights).sum().backward()
    return {
        name: parameter.grad.double().numpy().reshape(1, -1)
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def trained(run: Callable[..., Any], model: nn.Module, inputs: Inputs, optimizer: str) -> Arrays:
    """What a model gives after some steps towards a fixed target."""
    steps = OPTIMIZERS[optimizer](model.parameters())
    for _ in range(STEPS):
        steps.zero_grad()
        result = run(*inputs)
        (result - torch.linspace(-1, 1, result.shape[-1], dtype=result.dtype)).square().mean().backward()
        steps.step()
    return {"output": run(*inputs).detach().double().numpy()}


Measure = Callable[[Callable[..., Any], nn.Module, Inputs], Arrays]


class Pair:
    """A model in one type, eager and compiled; every measurement starts from the same weights."""

    def __init__(self, model: nn.Module, inputs: Inputs, dtype: torch.dtype, then: str) -> None:
        self.dtype, self.model = dtype, converted(model, dtype)
        self.fast = converted(model, dtype)
        options = {"then": then, "norm": "rms", "strict": True}
        self.compiled = torch.compile(self.fast, backend=tautomer, options=options)
        self.narrow = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
        self.wide = [x.double() if x.is_floating_point() else x for x in self.narrow]

    def both(self, measure: Measure) -> tuple[Arrays, Arrays]:
        """A measurement of the eager and of the compiled model."""
        self.fast.load_state_dict(self.model.state_dict())
        plain = copy.deepcopy(self.model)
        return measure(plain, plain, self.narrow), measure(self.compiled, self.fast, self.narrow)

    def score(self, measure: Measure) -> float:
        """By the numeric criterion; up to 4 is explained by rounding."""
        plain, fast = self.both(measure)

        def exact(wide: nn.Module) -> Arrays:
            return measure(wide, wide, self.wide)

        return judge(
            lambda _: plain,
            lambda _: fast,
            lambda _: exact(converted(self.model, torch.float64)),
            {},
            ml_dtypes.bfloat16 if self.dtype == torch.bfloat16 else np.float32,
            perturbed=lambda draw: exact(nudged(self.model, draw)),
            draws=2,
        ).score

    def distance(self, measure: Measure) -> float:
        """In parts of the largest element."""
        a, b = (found["output"] for found in self.both(measure))
        return float(np.abs(a - b).max() / np.abs(a).max())


class _Norms(logging.Handler):
    """Counts norms that were converted and those that were not, in the first graph."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.passed = self.missed = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self.passed += line.startswith("passed LayerNormalization")
        self.missed += line.startswith("missed LayerNormalization")


def checked(name: str, then: str) -> tuple[str, bool]:
    """A line about one model, and whether everything is in order."""
    model, said, fine = FAMILIES[name].module("sdpa").eval().requires_grad_(), [], True
    inputs = [torch.from_numpy(x) for x in FAMILIES[name].sample(SIZES, seed=2).values()]
    log, norms = logging.getLogger("tautomer.torch"), _Norms()
    log.setLevel(logging.INFO)
    log.addHandler(norms)

    def note(label: str, value: float, limit: float) -> None:
        nonlocal fine
        fine = fine and value <= limit
        said.append(f"{label} {value:.2g}" + " FAILED" * (not value <= limit))

    def pair(dtype: torch.dtype) -> Pair:
        torch._dynamo.reset()
        return Pair(model, inputs, dtype, then)

    single = pair(torch.float32)
    note("float32", single.score(outputs), LIMIT)
    log.removeHandler(norms)
    note("bfloat16", pair(torch.bfloat16).score(outputs), LIMIT)
    single, double = pair(torch.float32), pair(torch.float64)
    note("gradients", single.score(gradients), LIMIT)
    for optimizer in OPTIMIZERS:
        training = partial(trained, optimizer=optimizer)
        note(optimizer, single.score(training), LIMIT)
        note(f"{optimizer} in float64", double.distance(training), CLOSE)
    return f"{name}: {norms.passed} norms converted, {norms.missed} not; {', '.join(said)}", fine


def main(arguments: list[str] | None = None) -> int:
    """Checks every model."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torch_check", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", action="append", choices=MODELS, help="only this model (repeatable)")
    parser.add_argument("--then", default="aot_eager", choices=("inductor", "aot_eager", "eager"))
    options = parser.parse_args(arguments)
    good = True
    for name in options.only or MODELS:
        line, fine = checked(name, options.then)
        print(line, flush=True)
        good = good and fine
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
