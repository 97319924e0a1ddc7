"""Small transformers of plain torch modules, d = 768: inference and a training step on a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Literal
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from benchmarks.gpu_case import OURS, Call, Case, Check, Place

Kind = Literal["gpt2", "vit", "sigmoid vit"]
_WIDTH, _HEADS = 768, 12
# batch, tokens
_SIZES: dict[Kind, tuple[int, int]] = {"gpt2": (16, 1024), "vit": (128, 197), "sigmoid vit": (32, 1024)}


class Block(nn.Module):
    """LayerNorm before attention and before the MLP."""

    def __init__(self, kind: Kind, width: int, heads: int) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.out(self.attention(self.before(x)))
        wide = self.wide(self.between(x))
        return x + self.narrow(functional.gelu(wide, approximate="tanh" if self.kind == "gpt2" else "none"))

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        if self.kind == "sigmoid vit":
            scores = q @ k.transpose(-2, -1) * (1.0 / math.sqrt(width // self.heads))
            y = torch.sigmoid(scores - math.log(tokens)) @ v
        else:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.kind == "gpt2")
        return y.transpose(1, 2).reshape(batch, tokens, width)


class Model(nn.Module):
    """Blocks and a last norm."""

    def __init__(self, kind: Kind, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(kind, width, heads) for _ in range(layers)))
        self.last = nn.LayerNorm(width)
        self.head = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.blocks(x)))


@cache
def backend() -> Callable[..., Any]:
    """Ours, by its function: it has a name only where the package is installed. It verifies if it can."""
    from tautomer.runtime.torch.backend import tautomer

    return partial(tautomer, options={"verify": find_spec("flint") is not None})


def model(kind: Kind, place: Place) -> tuple[Model, torch.Tensor]:
    """A model with random weights, gains and biases, and its input."""
    torch.manual_seed(0)
    width, heads = place.size(_WIDTH, 16), place.size(_HEADS, 2)
    made = Model(kind, place.size(2, 1), width, heads)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    batch, tokens = _SIZES[kind]
    x = torch.randn(place.size(batch, 2), place.size(tokens, 8), width)
    return made.to(place.device, torch.bfloat16), x.to(place.device, torch.bfloat16)


def checks(place: Place) -> list[Check]:
    """The models through the backend beside themselves in float32, as far off as without it."""

    def error(kind: Kind) -> float:
        made, x = model(kind, place)
        torch._dynamo.reset()
        with torch.no_grad():
            compiled = torch.compile(made, backend=backend(), dynamic=False)
            out, plain = compiled(x).float(), made(x).float()
            exact = made.float()(x.float())
        return float((out - exact).norm() / (plain - exact).norm())

    return [Check(f"{kind} (error in times of eager's)", partial(error, kind), 2.0) for kind in _SIZES]


def cases(place: Place) -> list[Case]:
    """Each model in inference and in a training step."""
    found = []
    for training in (False, True):
        for kind, (batch, tokens) in _SIZES.items():
            found.append(
                Case(
                    f"{kind} {'training step' if training else 'inference'}",
                    f"{batch} x {tokens} x {_WIDTH}",
                    partial(_peers, kind, training, place),
                    sets=1,
                    graph=False,
                    bar="0.98x inductor, 1.03x hoped for",
                )
            )
    return found


def _peers(kind: Kind, training: bool, place: Place) -> Mapping[str, Callable[[], Call]]:
    made, x = model(kind, place)
    seed = torch.randn_like(x)

    def step(function: Callable[[torch.Tensor], torch.Tensor]) -> Call:
        def call(_: int) -> object:
            if not training:
                with torch.no_grad():
                    return function(x)
            return torch.autograd.grad(function(x), list(made.parameters()), seed)

        return call

    torch._dynamo.reset()  # once: it forgets what the other peers have compiled

    def compiled(by: Any) -> Call:
        call = step(torch.compile(made, backend=by, dynamic=False))
        call(0)
        return call

    def with_kernels() -> Call:
        with mock.patch("tautomer.runtime.torch.ops_use.no_gain_on_gpu", lambda *_, **__: ""):
            return compiled(backend())

    peers = {
        OURS: lambda: compiled(backend()),
        "eager": lambda: step(made),
        "inductor": lambda: compiled("inductor"),
    }
    # in training the backend takes no kernels of ours
    return peers if training else {**peers, "ours, all kernels": with_kernels}
