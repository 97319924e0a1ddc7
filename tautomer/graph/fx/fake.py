"""Torch's tensors without data: the only private names of torch on this floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def is_fake(held: Any) -> bool:
    """Whether a tensor has no data."""
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(held, FakeTensor)


def fake_mode_of(module: torch.fx.GraphModule) -> Any:
    """The mode in which the values of a graph were computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    for node in module.graph.nodes:
        held = node.meta.get("val")
        if is_fake(held):
            return held.fake_mode
    return FakeTensorMode(allow_non_fake_inputs=True)
