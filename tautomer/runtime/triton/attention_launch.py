"""How kernels of attention are launched on torch's tensors: what their arguments are, by name.

Every tensor is [B, H, N, d], [B, G, M, d] or [B, G, M, e] with any strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tautomer.codegen.triton.attention_tiles import Tiling, padded, strides
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.triton.grid import Launch, launch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Operands:
    """What stands between the products besides the form.

    Attributes:
        scale: what q k^T is multiplied by.
        bias: what is added to each score.
        softcap: above 0, where scores are capped.
        window: how many keys a query sees.
        free: see `attention_form.attend`.
        tensors: mask, lengths (int32), slopes and sinks (float32), as the form has them.
    """

    scale: float = 1.0
    bias: float = 0.0
    softcap: float = 0.0
    window: int = 0
    free: int = 0
    tensors: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """By the names of the kernels' arguments; shape: of the scores."""
        found: dict[str, Any] = dict(self.tensors)
        mask = found.get("mask")
        if mask is not None:
            found["mask"] = mask = mask.expand(shape)
            names = ("mask_batch", "mask_head", "mask_row", "mask_key")
            found |= dict(zip(names, mask.stride(), strict=True))
        numbers = ("scale", "bias", "softcap", "window", "free")
        return found | {name: getattr(self, name) for name in numbers}


def empty_like_rows(x: torch.Tensor, width: int) -> torch.Tensor:
    """An empty tensor of the shape of x but for its rows' width, with heads and rows in the order of x."""
    import torch

    batch, heads, rows, _ = x.shape
    if x.stride(1) < x.stride(2):  # [B, N, H, d] in memory
        return torch.empty((batch, rows, heads, width), dtype=x.dtype, device=x.device).transpose(1, 2)
    return torch.empty((batch, heads, rows, width), dtype=x.dtype, device=x.device)


def given_to(form: AttentionForm, operands: Operands, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The arguments of a kernel by name: tensors and their strides, operands and sizes."""
    q, k = tensors["q"], tensors["k"]
    batch, heads, rows, _ = q.shape
    columns = k.shape[2]
    given: dict[str, Any] = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dim() == 4:
            given |= dict(zip(strides(name), tensor.stride(), strict=True))
    given |= operands.arguments((batch, heads, rows, columns))
    shift = 0 if form.causal == "start" else columns - rows
    return given | {"H": heads, "group": heads // k.shape[1], "N": rows, "M": columns, "shift": shift}


def launch_tiles(
    name: str,
    text: str,
    inputs: tuple[tuple[str, str], ...],
    given: dict[str, Any],
    tiling: Tiling,
    q: torch.Tensor,
    v: torch.Tensor,
    programs: int,
) -> None:
    """Launches a kernel.

    Args:
        name, text: the kernel.
        inputs: its arguments before its constants, in order.
        given: what they are, by name.
        tiling: how it is cut up.
        q, v: tensors as wide as heads and their values.
        programs: of the grid; nothing is launched where there are none.
    """
    if not programs:
        return
    arguments = [
        given[one] if one in given else _tiles(given[one.removesuffix("_tiles")], kind, tiling)
        for one, kind in inputs
    ]
    if tiling.loads == "descriptors":
        _let_descriptors_allocate(q)
    constants = tiling.constants(q.shape[-1], v.shape[-1])
    launch(
        Launch(name, text, programs, constants, tiling.warps, tiling.stages, tiling.registers),
        arguments,
        q.device,
    )


def _tiles(tensor: torch.Tensor, kind: str, tiling: Tiling) -> Any:
    """The descriptor of a tensor, for tiles of this kind."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    block = [1, 1, getattr(tiling, kind.split()[0]), padded(tensor.shape[-1])]
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), block)


def _let_descriptors_allocate(like: torch.Tensor) -> None:
    """A program makes its descriptors in memory that it is given."""
    import torch
    import triton

    triton.set_allocator(
        lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=like.device)
    )
