"""Which modules of a model are layer normalisations that can be replaced, decided by what they compute."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from tautomer.graph.facts import Facts
from tautomer.patterns.recognition.recognised import Recognised

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Float64 on rows of a few thousand elements; another epsilon or divisor moves them by 1e-6 or more.
_ROUNDING = 1e-11


@dataclass(frozen=True)
class NormModule:
    """A module that computes a layer normalisation.

    Attributes:
        name: in the model.
        normalized_shape: sizes of the last axes, which make a row.
        epsilon: added to the variance.
        centre_in_training: whether its stream has element-wise dropout.
    """

    name: str
    normalized_shape: tuple[int, ...]
    epsilon: float
    centre_in_training: bool = False


def layer_norm_module(model: nn.Module, name: str, op: Recognised, facts: Facts) -> NormModule | str:
    """The module as one that can be replaced, or why it cannot be.

    Args:
        model: holds it.
        name: of the module.
        op: the operation that was found in its code.
        facts: of the graph that the operation is in.
    """
    module = model.get_submodule(name)
    kind = type(module).__name__
    if module is model:
        return "it is the model itself, and what is replaced is modules of a model"
    own = [key for key, _ in module.named_parameters()] + [key for key, _ in module.named_buffers()]
    if any(True for _ in module.children()) or not set(own) <= {"weight", "bias"}:
        return f"{kind} does more than normalise, and modules are replaced as a whole"
    if any(getattr(module, hooks) for hooks in _HOOKS):
        return "it has hooks, which would be lost: register them after the conversion"
    shape = facts.get(op.inputs[0]).shape
    assert shape is not None
    first = len(shape) - len(op.axes)
    if op.axes != tuple(range(first, len(shape))):
        return "its rows are not the last axes"
    found = NormModule(name, shape[first:], _epsilon(module, op))
    return found if _is_layer_norm(module, found) else f"{kind} normalises other than along the last axes"


def _epsilon(module: nn.Module, op: Recognised) -> float:
    """The module's own where it has one: what was recognised is rounded."""
    found = float(op.attributes.get("epsilon", 1e-5))
    own = getattr(module, "eps", found)
    return float(own) if isinstance(own, float) and abs(own - found) <= 1e-6 * abs(own) else found


def _is_layer_norm(module: nn.Module, found: NormModule) -> bool:
    """Whether it is F.layer_norm of its only argument, on rows small and large."""
    try:
        alone = copy.deepcopy(module).to("cpu", torch.float64).eval()
        generator = torch.Generator().manual_seed(1)
        x = torch.randn((2, 3, *found.normalized_shape), generator=generator, dtype=torch.float64)
        x[0] *= found.epsilon**0.5
        with torch.no_grad():
            y = alone(x)
            weight, bias = getattr(alone, "weight", None), getattr(alone, "bias", None)
            exact = F.layer_norm(x, found.normalized_shape, weight, bias, found.epsilon)
    except Exception:  # it takes something else
        return False
    return isinstance(y, torch.Tensor) and y.shape == exact.shape and torch.allclose(y, exact, _ROUNDING)
