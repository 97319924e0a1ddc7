"""Taking the mean out of a tensor of a module along the channels of a stream.

    W  ->  W - mean(W)        along digits of its flat index, in float64, rounded once

and the same, exact in the arithmetic at hand, for what passes between modules while the model runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Centring:
    """A parameter or buffer that writes to a stream.

    Attributes:
        name: its name in the model.
        sizes: its shape, with axes cut where a part of them makes a row.
        axes: those of the sizes along which the mean is taken out.
    """

    name: str
    sizes: tuple[int, ...]
    axes: tuple[int, ...]

    def apply(self, tensor: torch.Tensor) -> None:
        """Centres a tensor in place, unless it is centred as well as its type allows."""
        wide = tensor.detach().to("cpu", torch.float64).reshape(self.sizes)
        mean = wide.mean(self.axes, keepdim=True)
        # what rounding leaves of a mean is not taken out again: a second time would change the weights by it
        size = wide.square().mean(self.axes, keepdim=True).sqrt()
        if bool((mean.abs() <= torch.finfo(tensor.dtype).eps * size).all()):
            return
        with torch.no_grad():
            tensor.copy_((wide - mean).reshape(tensor.shape))

    def projected(self, gradient: torch.Tensor) -> torch.Tensor:
        """The part of a gradient that leaves the mean as it is."""
        apart = gradient.reshape(self.sizes)
        return (apart - apart.mean(self.axes, keepdim=True)).reshape(gradient.shape)


@dataclass(frozen=True)
class Boundary:
    """A value that is centred while the model runs, where it enters or leaves a module.

    Attributes:
        module: the name of the module.
        entering: whether it is an argument, or what the module gives.
        shape: of the value on the example inputs: no other tensor that passes there has it.
        axes: of a row, counted from the end.
    """

    module: str
    entering: bool
    shape: tuple[int, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True)
class CentreArgument:
    """A forward pre-hook that centres one argument."""

    position: int | str
    axes: tuple[int, ...]

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Gives the arguments with one of them centred."""
        if isinstance(self.position, str):
            return args, {**kwargs, self.position: centred(kwargs[self.position], self.axes)}
        at = self.position
        return (*args[:at], centred(args[at], self.axes), *args[at + 1 :]), kwargs


@dataclass(frozen=True)
class CentreResult:
    """A forward hook that centres what a module gives, or one element of it."""

    position: int | None
    axes: tuple[int, ...]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> Any:
        """Gives the result, centred."""
        if self.position is None:
            return centred(result, self.axes)
        at = self.position
        return (*result[:at], centred(result[at], self.axes), *result[at + 1 :])


def centred(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """x - mean(x)."""
    return x - x.mean(axes, keepdim=True)
