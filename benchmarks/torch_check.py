"""Whole models through torch.compile(backend="tautomer"): outputs, gradients and training beside eager torch.

    python -m benchmarks.torch_check [--only gpt2] [--then aot_eager]

Two-layer models of the transformers library, random weights. Outputs (float32, bfloat16) and gradients by the
numeric criterion of tautomer.verify.numerics, with the model in float64 as the oracle; 20 training steps with
SGD and AdamW, whose outputs after the last step are compared: in float32 by the criterion, in float64 to
1e-10. The norms that were converted have to be those of benchmarks/results/recentring.md, in inference and in
training, in every type. Prints one line a model; exit code 1 when anything is off.
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

from benchmarks.conversions import CONVERSIONS
from benchmarks.families import FAMILIES
from tautomer.runtime.torch.backend import tautomer
from tautomer.verify.classes import moved
from tautomer.verify.numerics import LIMIT, judge

NAMES = (
    *("gpt2", "opt", "pythia", "vit", "bert", "llama"),
    *("whisper_encoder", "whisper_decoder", "swin"),
)
# norms that training leaves as they are, since the model gives out what they compute
OUTPUTS = {"whisper_encoder": 1, "whisper_decoder": 1}
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
    """Counts what became of the layer normalisations, from compilation to compilation."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.converted = self.stayed = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self.converted += line.startswith("passed LayerNormalization") and "an RMSNormalization" in line
        self.stayed += line.startswith("missed LayerNormalization")

    def taken(self) -> tuple[int, int]:
        """How many were converted since the last call, and of how many."""
        found = self.converted, self.converted + self.stayed
        self.converted = self.stayed = 0
        return found


class Report:
    """What was found about one model."""

    def __init__(self, name: str) -> None:
        self.name, self.fine, self.cells = name, True, dict[str, str]()

    def note(self, label: str, value: float, limit: float) -> None:
        """Adds a figure."""
        self._add(label, f"{value:.2g}", value <= limit)

    def counted(self, label: str, norms: tuple[int, int]) -> None:
        """Adds converted norms."""
        found, every, _ = CONVERSIONS[self.name]
        found -= OUTPUTS.get(self.name, 0) if label in ("gradients", "float64") else 0
        self._add(f"norms, {label}", "{} / {}".format(*norms), norms == (found, every))

    def _add(self, label: str, text: str, good: bool) -> None:
        self.fine = self.fine and good
        self.cells[label] = text if good else f"{text} FAILED"

    def __str__(self) -> str:
        return f"{self.name}: " + "; ".join(f"{label} {text}" for label, text in self.cells.items())


def checked(name: str, then: str) -> Report:
    """What the backend makes of one model."""
    model, report = FAMILIES[name].module("sdpa").eval().requires_grad_(), Report(name)
    inputs = [torch.from_numpy(x) for x in FAMILIES[name].sample(SIZES, seed=2).values()]
    log, norms = logging.getLogger("tautomer.torch"), _Norms()
    log.setLevel(logging.INFO)
    log.addHandler(norms)

    def pair(dtype: torch.dtype) -> Pair:
        torch._dynamo.reset()
        return Pair(model, inputs, dtype, then)

    for dtype in ("float32", "bfloat16"):
        report.note(dtype, pair(getattr(torch, dtype)).score(outputs), LIMIT)
        report.counted(dtype, norms.taken())
    single, double = pair(torch.float32), pair(torch.float64)
    report.note("gradients", single.score(gradients), LIMIT)
    report.counted("gradients", norms.taken())
    for optimizer in OPTIMIZERS:
        training = partial(trained, optimizer=optimizer)
        report.note(optimizer, single.score(training), LIMIT)
        norms.taken()
        report.note(f"{optimizer}, float64", double.distance(training), CLOSE)
        if optimizer == "sgd":  # the same compiled model goes on
            report.counted("float64", norms.taken())
    log.removeHandler(norms)
    return report


def main(arguments: list[str] | None = None) -> int:
    """Checks every model."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torch_check", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", action="append", choices=NAMES, help="only this model (repeatable)")
    parser.add_argument("--then", default="aot_eager", choices=("inductor", "aot_eager", "eager"))
    options = parser.parse_args(arguments)
    reports = []
    for name in options.only or NAMES:
        reports.append(checked(name, options.then))
        print(reports[-1], flush=True)
    return 0 if all(each.fine for each in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
