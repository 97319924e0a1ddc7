"""The parameters and buffers of a module: which can be changed in place, and which not and why."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from tautomer.errors import InputError

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def tensors_of(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """All parameters and buffers by name; a tied one under each of its names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def tensor_of(model: nn.Module, name: str) -> torch.Tensor:
    """The parameter or buffer of that name."""
    owner, _, last = name.rpartition(".")
    tensor = getattr(model.get_submodule(owner), last)
    assert isinstance(tensor, torch.Tensor)
    return tensor


def require_convertible(model: nn.Module) -> None:
    """Refuses modules whose numbers cannot be read or changed.

    Raises:
        InputError: it has parameters on the meta device, or quantized ones.
    """
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            raise InputError(
                f"it is a quantized {type(module).__name__}",
                where=f"module '{name}'",
                remedy="convert the model before it is quantized",
            )
    for name, tensor in tensors_of(model):
        if tensor.is_meta:
            raise InputError(
                "it is on the meta device and has no numbers to centre",
                where=f"parameter '{name}'",
                remedy="materialise the model and load its weights first",
            )
        if tensor.is_quantized or (isinstance(tensor, nn.Parameter) and not tensor.is_floating_point()):
            raise InputError(
                f"it holds {str(tensor.dtype).removeprefix('torch.')}, not floats",
                where=f"parameter '{name}'",
                remedy="convert the model before it is quantized",
            )


class ModuleTensors:
    """What may be changed in place, asked once per tensor.

    Args:
        model: it is not changed.
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors = dict(tensors_of(model))
        self._owners: dict[int, dict[int, str]] = {}
        for name, tensor in self._tensors.items():
            self._owners.setdefault(_storage(tensor), {}).setdefault(id(tensor), name)
        self._unfit: dict[str, str] = {}

    def unfit(self, name: str) -> str:
        """Why a tensor cannot be centred in place, or ""."""
        if name not in self._unfit:
            self._unfit[name] = self._why(name, self._tensors[name])
        return self._unfit[name]

    def _why(self, name: str, tensor: torch.Tensor) -> str:
        if type(tensor) not in (torch.Tensor, nn.Parameter) or tensor.layout is not torch.strided:
            return f"'{name}' is a {type(tensor).__name__}, which is not changed in place"
        if tensor.dtype not in _FLOATS:
            return f"'{name}' holds {str(tensor.dtype).removeprefix('torch.')}"
        others = [other for key, other in self._owners[_storage(tensor)].items() if key != id(tensor)]
        if others:
            return f"'{name}' shares its memory with '{others[0]}'"
        largest = float(tensor.detach().abs().max()) if tensor.numel() else 0.0
        if not 2.0 * largest <= torch.finfo(tensor.dtype).max:  # centring at most doubles an element
            return f"'{name}' holds {largest:.4g}, which centring could carry out of its type's range"
        return ""


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)
