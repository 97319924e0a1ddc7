"""Training a converted model so that it follows the model that it was made of.

The layer-norm model computes with weights V, whose means nobody sees, the converted one with W = C V, where C
takes the mean out. The gradient for V is that for W, projected: C dL/dW. So where W gets the update that V
gets, and is projected after,

    W' = C (W + u(C dL/dW)) = C V'

step by step: for every optimizer whose update depends on gradients alone, but for a multiple of the weight
itself. That is SGD with or without momentum and weight decay, AdamW, Adam and its relatives without coupled
weight decay, Muon. It is not so where the update depends on the weight in another way: Adam with coupled
weight decay, and Adafactor and LAMB, which look at the size of weights. Nor is it with dropout in the stream:
an element that is dropped takes its share of the mean with it, so a mean that was nobody's business is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tautomer.errors import InputError
from tautomer.runtime.torch.centring import Centring
from tautomer.runtime.torch.module_tensors import tensor_of
from tautomer.runtime.torch.norm_modules import RMSNorm

# Weight decay that is added to the gradient goes through a function that is not linear there.
_BENT = ("Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop")
_LOOK_AT_WEIGHTS = ("Adafactor",)


@dataclass(frozen=True)
class CentreStepped:
    """A hook on an optimizer's steps."""

    model: nn.Module
    centrings: tuple[Centring, ...]

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Takes the means out that the step has brought in."""
        with torch.no_grad():
            for centring in self.centrings:
                tensor = tensor_of(self.model, centring.name)
                tensor.copy_(centring.projected(tensor))


@dataclass(frozen=True)
class Kept:
    """The hooks, to be removed when training is over."""

    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        """Lets the weights go where they want."""
        for handle in self.handles:
            handle.remove()


def keep_centred(
    model: nn.Module, centrings: Sequence[Centring], optimizer: torch.optim.Optimizer, *, exact: bool = True
) -> Kept:
    """Projects gradients as they come, and weights after each step.

    Args:
        model: the converted model.
        centrings: what was centred in it.
        optimizer: of its parameters.
        exact: whether to refuse what is known not to follow the original's trajectory.

    Raises:
        InputError: the trajectory would be another.
    """
    reason = _why_not(model, optimizer) if exact else ""
    if reason:
        raise InputError(
            f"{reason}, so training would not follow the original's trajectory",
            where="keep_centred",
            remedy="exact=False keeps the weights centred all the same",
        )
    handles = [
        tensor.register_hook(centring.projected)
        for centring in centrings
        if (tensor := tensor_of(model, centring.name)).requires_grad
    ]
    stepping = CentreStepped(model, tuple(c for c in centrings if tensor_of(model, c.name).requires_grad))
    return Kept((*handles, optimizer.register_step_post_hook(stepping)))


def _why_not(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Why the trajectory would be another, or ""."""
    name = type(optimizer).__name__
    if name in _LOOK_AT_WEIGHTS:
        return f"{name} looks at the size of weights"
    if name in _BENT and any(
        group.get("weight_decay") and not group.get("decoupled_weight_decay")
        for group in optimizer.param_groups
    ):
        return f"{name} adds weight decay to the gradient"
    for path, module in model.named_modules():
        if isinstance(module, RMSNorm) and module.centre_in_training:
            return f"there is dropout in the stream that norm '{path}' reads"
    return ""
