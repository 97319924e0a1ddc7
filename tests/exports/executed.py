"""Counts what torch executes, so that the expected counts do not rest on a reading of the code alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from benchmarks.specs import label

# Operations that have a function of their own, and modules of transformers that spell them out.
FUNCTIONS = {
    F.layer_norm: "LayerNormalization",
    F.softmax: "Softmax",
    F.relu: "Relu",
    F.silu: "Swish",
    F.gelu: "Gelu",
}
MODULES = {
    "LlamaRMSNorm": "RMSNormalization",
    "T5LayerNorm": "RMSNormalization",
    "NewGELUActivation": "Gelu(tanh)",
    "BloomGelu": "Gelu(tanh)",
    "QuickGELUActivation": "Swish",
}


class _Counting(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in FUNCTIONS:
            self.found[label(FUNCTIONS[function], kwargs)] += 1
        return function(*args, **kwargs)


def executed(module: nn.Module, *inputs: torch.Tensor) -> Counter[str]:
    """How often the module runs each of the operations above on these inputs."""
    counting = _Counting()

    def note(called: nn.Module, *_: Any) -> None:
        counting.found.update([MODULES[type(called).__name__]])

    spelled_out = [part for part in module.modules() if type(part).__name__ in MODULES]
    hooks = [part.register_forward_pre_hook(note) for part in {id(p): p for p in spelled_out}.values()]
    try:
        with torch.no_grad(), counting:
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return counting.found


def epsilons(module: nn.Module) -> list[float]:
    """The epsilon of every norm in the module, sorted."""
    names = ("eps", "variance_epsilon")
    found = [getattr(part, name) for part in module.modules() for name in names if hasattr(part, name)]
    return sorted(found)
