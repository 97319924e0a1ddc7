"""Values that depend on weights alone, computed once and not in every call.

One compiled graph may serve several layers, whose weights are just its inputs, so values are kept per tuple
of weights, and a weight is known by its identity, its version and its storage. In-place updates,
load_state_dict and .to() change one of these. Fused optimizers do not, so a step of any optimizer forgets all
values. Nothing sees `weight.data.mul_(2)`: after that, call `refresh`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.optim.optimizer import register_optimizer_step_post_hook

from tautomer.runtime.torch.compat import storage_reference

_alive: weakref.WeakSet[Prologue] = weakref.WeakSet()


def refresh() -> None:
    """Forgets every value computed from weights; the next call of a compiled model computes its own again.

    Needed after writing to `weight.data`, which torch does not record.
    """
    for each in list(_alive):
        each.forget()


@cache
def _watch_optimizers() -> None:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def after_step(*_: object) -> None:
        refresh()

    register_optimizer_step_post_hook(after_step)


@dataclass(frozen=True)
class _Kept:
    """Values, and the state of the weights that they came from.

    The references keep the address of a freed storage from being given to another one.
    """

    values: tuple[Tensor, ...]
    versions: list[int]
    storages: list[int]
    references: tuple[object, ...]


@dataclass(eq=False)
class Prologue:
    """The part of a graph that sees weights alone.

    Attributes:
        graph: from the weights to what the rest of the graph wants of them.
        positions: of the weights among the inputs of the whole graph.
    """

    graph: fx.GraphModule
    positions: tuple[int, ...]
    _kept: dict[tuple[int, ...], _Kept] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _watch_optimizers()
        _alive.add(self)

    def forget(self) -> None:
        """Drops every value."""
        self._kept.clear()

    def values(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        """What the weights among these inputs give: from memory where they are as they were."""
        weights = [inputs[i] for i in self.positions]
        key = tuple(map(id, weights))
        try:
            versions = [weight._version for weight in weights]
        except RuntimeError:  # tensors made in inference mode have none
            return self._computed(weights)
        storages = [weight.untyped_storage()._cdata for weight in weights]
        kept = self._kept.get(key)
        if kept is None or kept.versions != versions or kept.storages != storages:
            values = self._computed(weights)
            dying = [weakref.ref(weight, lambda _: self._kept.pop(key, None)) for weight in weights]
            held = [storage_reference(weight.untyped_storage()) for weight in weights]
            kept = self._kept[key] = _Kept(values, versions, storages, (*dying, *held))
        return kept.values

    def before(self, compiled: Callable[..., Any]) -> Callable[..., Any]:
        """The whole graph, from the compiled rest of it."""
        return lambda *inputs: compiled(*inputs, *self.values(inputs))

    def _computed(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # what is kept outlives the call, and a tensor of inference mode is of no use outside of it
        with torch.inference_mode(False), torch.no_grad():
            return tuple(self.graph(*weights))
