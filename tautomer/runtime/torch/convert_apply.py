"""Carrying out a conversion on a module in place, and taking it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tautomer.errors import CheckFailedError
from tautomer.runtime.torch.centring import Boundary, CentreArgument, CentreResult, Centring
from tautomer.runtime.torch.convert_plan import ModulePlan
from tautomer.runtime.torch.example import Example
from tautomer.runtime.torch.layer_norms import NormModule
from tautomer.runtime.torch.module_tensors import tensor_of
from tautomer.runtime.torch.norm_modules import RMSNorm


@dataclass(frozen=True)
class CentreLoaded:
    """A hook on `load_state_dict`: what was loaded may be a checkpoint from before the conversion."""

    centrings: tuple[Centring, ...]

    def __call__(self, model: nn.Module, incompatible: Any) -> None:
        """Centres the tensors again; those of a converted checkpoint stay as they are."""
        for centring in self.centrings:
            centring.apply(tensor_of(model, centring.name))


@dataclass
class Applied:
    """What was done, so that it can be undone."""

    _undo: list[Callable[[], None]] = field(default_factory=list)

    def take_back(self) -> None:
        """Restores the module."""
        while self._undo:
            self._undo.pop()()

    def before(self, undo: Callable[[], None]) -> None:
        """Remembers how to undo the next step."""
        self._undo.append(undo)


def apply_plan(
    model: nn.Module,
    plan: ModulePlan,
    norm: type[RMSNorm],
    example: Example,
    *,
    can_be_undone: bool = True,
) -> Applied:
    """Replaces norms, centres tensors, and places hooks, in place.

    Args:
        model: the module that the plan is for, or a copy of it.
        plan: what to do.
        norm: what layer normalisations become.
        example: a call of the module, on which the boundaries are found.
        can_be_undone: whether to keep the old contents of what is centred.

    Raises:
        CheckFailedError: a boundary is not where the trace has it. The module is as it was.
    """
    done, hooks = Applied(), _hooks(model, plan.boundaries, example)
    try:
        for module in plan.norms:
            _replace(model, module, norm, done)
        for centring in plan.centrings:
            tensor = tensor_of(model, centring.name)
            if can_be_undone:
                done.before(_restoring(tensor))
            centring.apply(tensor)
        for name, hook in hooks.items():
            done.before(_register(model.get_submodule(name), hook).remove)
        loaded = CentreLoaded(plan.centrings)
        done.before(model.register_load_state_dict_post_hook(loaded).remove)
    except BaseException:
        done.take_back()
        raise
    return done


def _replace(model: nn.Module, found: NormModule, kind: type[RMSNorm], done: Applied) -> None:
    """Puts a module in the place of a layer normalisation, under each of its names."""
    old = model.get_submodule(found.name)
    weight, bias = getattr(old, "weight", None), getattr(old, "bias", None)
    new = kind(
        found.normalized_shape, found.epsilon, weight, bias, centre_in_training=found.centre_in_training
    )
    new.train(old.training)
    for name in [name for name, module in model.named_modules(remove_duplicate=False) if module is old]:
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, new)
        done.before(partial(setattr, model.get_submodule(owner), last, old))


def _restoring(tensor: torch.Tensor) -> Callable[[], None]:
    kept = tensor.detach().clone()

    def restore() -> None:
        with torch.no_grad():
            tensor.copy_(kept)

    return restore


Hook = CentreArgument | CentreResult


def _register(module: nn.Module, hook: Hook) -> RemovableHandle:
    if isinstance(hook, CentreArgument):
        return module.register_forward_pre_hook(hook, with_kwargs=True)
    return module.register_forward_hook(hook)


def _hooks(model: nn.Module, boundaries: tuple[Boundary, ...], example: Example) -> dict[str, Hook]:
    """Runs the module once and finds, at each boundary, the tensor that is to be centred.

    Raises:
        CheckFailedError: it is not there.
    """
    if not boundaries:
        return {}
    found: dict[str, Hook] = {}

    def watch(boundary: Boundary) -> RemovableHandle:
        module = model.get_submodule(boundary.module)
        if boundary.entering:

            def entering(_: nn.Module, own: tuple[Any, ...], named: dict[str, Any]) -> None:
                arguments: list[tuple[int | str, Any]] = [*enumerate(own), *named.items()]
                for at, held in arguments:
                    if _is(held, boundary):
                        found.setdefault(boundary.module, CentreArgument(at, boundary.axes))

            return module.register_forward_pre_hook(entering, with_kwargs=True)

        def leaving(_: nn.Module, own: tuple[Any, ...], result: Any) -> None:
            if _is(result, boundary):
                found[boundary.module] = CentreResult(None, boundary.axes)
            elif type(result) is tuple:
                for at, held in enumerate(result):
                    if _is(held, boundary):
                        found.setdefault(boundary.module, CentreResult(at, boundary.axes))

        return module.register_forward_hook(leaving)

    handles = [watch(boundary) for boundary in boundaries]
    try:
        example.run(model)
    finally:
        for handle in handles:
            handle.remove()
    for boundary in boundaries:
        if boundary.module not in found:
            raise CheckFailedError(
                f"no tensor of shape {list(boundary.shape)} passes there, where the traced graph has one",
                where=f"module '{boundary.module}'",
                remedy="the model is unchanged; please report it",
            )
    return found


def _is(held: Any, boundary: Boundary) -> bool:
    return isinstance(held, torch.Tensor) and tuple(held.shape) == boundary.shape
