"""Example inputs of a module: given, or made from the configuration of a transformers model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tautomer.errors import InputError
from tautomer.runtime.torch.module_state import first_line, outputs_of

_LENGTH = 7  # of a made sequence of tokens: no size of anything else


@dataclass(frozen=True)
class Example:
    """A call of a module.

    Attributes:
        args: positional arguments.
        kwargs: arguments by name.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def run(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """What the module gives in evaluation mode."""
        return outputs_of(model, self.args, self.kwargs)

    def changed(self, change: Any) -> Example:
        """The same call with every float tensor changed."""
        return Example(
            tuple(_changed(held, change) for held in self.args),
            {name: _changed(held, change) for name, held in self.kwargs.items()},
        )


def example_of(model: nn.Module, given: Any) -> Example:
    """The call that the user gave, or one that suits the model.

    Args:
        model: transformers models say what they take.
        given: a tensor, a tuple of arguments, a mapping of them, or None.

    Raises:
        InputError: none was given and none can be made, or the module does not run on it.
    """
    if given is None:
        example = Example(kwargs=_made(model))
    elif isinstance(given, Mapping):
        example = Example(kwargs=dict(given))
    elif isinstance(given, (tuple, list)):
        example = Example(tuple(given))
    else:
        example = Example((given,))
    if _returns_a_cache(model) and "use_cache" not in example.kwargs:
        # what it holds is made of what norms give, not of what they read, and it cannot be exported
        example = Example(example.args, {**example.kwargs, "use_cache": False})
    try:
        example.run(model)
    except Exception as error:  # whatever the module's own code raises
        raise InputError(
            f"it does not run on the example inputs: {first_line(error)}",
            where=type(model).__name__,
            remedy="give example_inputs that it takes: a tuple, or a dict of arguments by name",
        ) from error
    return example


def _returns_a_cache(model: nn.Module) -> bool:
    """Whether it is a transformers model that keeps keys and values."""
    wanted = getattr(getattr(model, "config", None), "use_cache", False)
    return bool(wanted) and "use_cache" in inspect.signature(model.forward).parameters


def _made(model: nn.Module) -> dict[str, torch.Tensor]:
    """Inputs by what a transformers configuration says.

    Raises:
        InputError: it is no such model, or takes something else.
    """
    config: Any = getattr(model, "config", None)
    name = getattr(model, "main_input_name", "")
    first = next(model.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    if name == "input_ids" and hasattr(config, "vocab_size"):
        made = torch.randint(0, config.vocab_size, (2, _LENGTH), generator=generator)
        return {name: made.to(first.device)}
    shape: tuple[int, ...] | None = None
    if name == "pixel_values" and isinstance(getattr(config, "image_size", None), int):
        shape = (2, getattr(config, "num_channels", 3), config.image_size, config.image_size)
    elif name == "input_features" and hasattr(config, "max_source_positions"):
        shape = (2, config.num_mel_bins, 2 * config.max_source_positions)
    if shape is None:
        raise InputError(
            "what it takes is not known",
            where=type(model).__name__,
            remedy="give example_inputs: a tuple of arguments, or a dict of them by name",
        )
    return {name: torch.randn(shape, generator=generator).to(first.device, first.dtype)}


def _changed(held: Any, change: Any) -> Any:
    return change(held) if isinstance(held, torch.Tensor) and held.is_floating_point() else held
