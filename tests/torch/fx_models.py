"""Small modules and their pre-dispatch graphs, for the tests of torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from benchmarks.families import FAMILIES

SIZES = {"batch": 3, "sequence": 7, "source": 9}
OTHER_SIZES = {"batch": 2, "sequence": 11, "source": 5}


def graph_of(module: nn.Module, *example: torch.Tensor, dynamic: Any = None) -> torch.fx.GraphModule:
    """The graph that torch.export makes of a module."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, example, dynamic_shapes=dynamic)
        return exported.module()


def sample(name: str, sizes: dict[str, int], seed: int = 1) -> tuple[torch.Tensor, ...]:
    """Inputs of a family."""
    return tuple(torch.from_numpy(value) for value in FAMILIES[name].sample(sizes, seed=seed).values())


@cache
def family_graph(name: str) -> tuple[torch.fx.GraphModule, Sequence[torch.Tensor]]:
    """The graph of a family with open sizes, and an example; the parameters are perturbed."""
    family = FAMILIES[name]
    example = sample(name, SIZES)
    open_sizes = tuple(dict.fromkeys(item.axes, torch.export.Dim.AUTO) for item in family.inputs)
    return graph_of(
        family.module("eager" if name == "convnext" else "sdpa").eval(), *example, dynamic=open_sizes
    ), example


def calls(module: torch.fx.GraphModule, name: str) -> int:
    """How often a graph calls an ATen operator."""
    return sum(str(node.target).startswith(f"aten.{name}.") for node in module.graph.nodes)


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal but for the rounding of a few dozen operations in float32, 6e-8 of the largest element each."""
    first, second = first.detach(), second.detach()
    return float((first - second).abs().max()) <= 2e-6 * float(first.abs().max())
