"""Attention by Triton kernels: launches on torch's tensors.

Every function takes tensors as [B, H, N, d], [B, G, M, d] and [B, G, M, e] with any strides, and writes
results in the layout of q's rows, so that the transposes around attention need no copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tautomer.codegen import triton_attention, triton_attention_backward, triton_attention_decode
from tautomer.codegen.triton_attention_scores import Scores
from tautomer.codegen.triton_attention_tiles import Tiling, padded, strides
from tautomer.patterns.attention_form import AttentionForm
from tautomer.runtime.triton.grid import Launch, launch

if TYPE_CHECKING:
    import torch

# programs that one query is spread over, and parts of its keys, at most
_PROGRAMS, _PARTS = 528, 128


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


def attend(
    form: AttentionForm, tiling: Tiling, operands: Operands, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The result, and the statistic of each row that its gradient needs, or None."""
    import torch

    y = empty_like_rows(q, v.shape[-1])
    saved = Scores(form).divided and form.function.second is None
    statistic = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device) if saved else None
    given = _given(form, operands, {"q": q, "k": k, "v": v, "y": y})
    given["statistic"] = statistic
    blocks = -(-q.shape[2] // tiling.rows)
    inputs, programs = triton_attention.arguments(form, tiling), blocks * q.shape[0] * q.shape[1]
    _launch(*_forward(form, tiling), inputs, given | {"blocks": blocks}, tiling, q, v, programs)
    return y, statistic


def attend_one(
    form: AttentionForm, tiling: Tiling, operands: Operands, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """The result for a single query [B, H, 1, d], by keys that many programs share."""
    import torch

    batch, heads, _, _ = q.shape
    groups, columns, width = k.shape[1], k.shape[2], v.shape[3]
    blocks = max(1, min(_PARTS, -(-_PROGRAMS // (batch * groups)), columns // (4 * tiling.keys)))
    y = empty_like_rows(q, width)
    part = torch.empty((batch, heads, blocks, width), dtype=torch.float32, device=q.device)
    tops, totals = (torch.empty(part.shape[:3], dtype=torch.float32, device=q.device) for _ in range(2))
    given = _given(form, operands, {"q": q, "k": k, "v": v, "y": y})
    given |= {"part": part, "tops": tops, "totals": totals, "blocks": blocks}
    inputs = triton_attention_decode.arguments(form)
    tiling = replace(tiling, rows=padded(heads // groups))
    _launch(*_decode(form, tiling), inputs, given, tiling, q, v, blocks * batch * groups)
    join = Tiling(1 << (blocks - 1).bit_length(), 16, 4, 1)
    _launch(*_joined(form), triton_attention_decode.joined_arguments(form), given, join, q, v, batch * heads)
    return y


def gradients(
    form: AttentionForm,
    tilings: Mapping[str, Tiling],
    operands: Operands,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dy: torch.Tensor,
    y: torch.Tensor | None,
    statistic: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of q, k and v.

    Args:
        form: what was computed.
        tilings: of the kernels of "queries" and "keys".
        operands: as in the forward pass.
        q: [B, H, N, d].
        k: [B, G, M, d].
        v: [B, G, M, e].
        dy: [B, H, N, e].
        y: the result; None where the form needs no statistic.
        statistic: of the forward pass.
    """
    tensors = {"q": q, "k": k, "v": v, "dy": dy}
    if y is not None and statistic is not None:
        tensors |= {"delta": _row_sums(form, y, dy), "statistic": statistic}
    dq = gradient_of_queries(form, tilings["queries"], operands, tensors)
    return dq, *gradients_of_keys(form, tilings["keys"], operands, tensors)


def _row_sums(form: AttentionForm, y: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """The sum of y * dy over each row, in float32."""
    import torch

    tiling = Tiling(64, 16, 4, 1)
    delta = torch.empty(y.shape[:3], dtype=torch.float32, device=y.device)
    blocks = -(-y.shape[2] // tiling.rows)
    given: dict[str, Any] = {"y": y, "dy": dy, "delta": delta, "blocks": blocks}
    given |= {"H": y.shape[1], "N": y.shape[2]}
    for name, tensor in (("y", y), ("dy", dy)):
        given |= dict(zip(strides(name), tensor.stride(), strict=True))
    inputs = triton_attention_backward.delta_arguments(form)
    _launch(*_delta(form), inputs, given, tiling, y, y, blocks * y.shape[0] * y.shape[1])
    return delta


def gradient_of_queries(
    form: AttentionForm, tiling: Tiling, operands: Operands, tensors: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The gradient of q; tensors: q, k, v, dy, and where the form needs them delta and statistic."""
    q, v = tensors["q"], tensors["v"]
    dq = empty_like_rows(q, q.shape[-1])
    blocks = -(-q.shape[2] // tiling.rows)
    given = _given(form, operands, {**tensors, "dq": dq}) | {"blocks": blocks}
    inputs = triton_attention_backward.arguments(form, tiling, ("dq",))
    _launch(*_of_queries(form, tiling), inputs, given, tiling, q, v, blocks * q.shape[0] * q.shape[1])
    return dq


def gradients_of_keys(
    form: AttentionForm, tiling: Tiling, operands: Operands, tensors: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of k and v; tensors as in `gradient_of_queries`."""
    q, k, v = tensors["q"], tensors["k"], tensors["v"]
    results = {"dk": empty_like_rows(k, k.shape[-1]), "dv": empty_like_rows(v, v.shape[-1])}
    blocks = -(-k.shape[2] // tiling.keys)
    given = _given(form, operands, {**tensors, **results}) | {"blocks": blocks}
    inputs = triton_attention_backward.arguments(form, tiling, ("dk", "dv"))
    named = _of_keys(form, tiling, q.shape[1] != k.shape[1])
    _launch(*named, inputs, given, tiling, q, v, blocks * k.shape[0] * k.shape[1])
    return results["dk"], results["dv"]


def empty_like_rows(x: torch.Tensor, width: int) -> torch.Tensor:
    """An empty tensor of the shape of x but for its rows' width, with heads and rows in the order of x."""
    import torch

    batch, heads, rows, _ = x.shape
    if x.stride(1) < x.stride(2):  # [B, N, H, d] in memory
        return torch.empty((batch, rows, heads, width), dtype=x.dtype, device=x.device).transpose(1, 2)
    return torch.empty((batch, heads, rows, width), dtype=x.dtype, device=x.device)


def _given(form: AttentionForm, operands: Operands, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
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


def _launch(
    name: str,
    text: str,
    inputs: tuple[tuple[str, str], ...],
    given: dict[str, Any],
    tiling: Tiling,
    q: torch.Tensor,
    v: torch.Tensor,
    programs: int,
) -> None:
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


_forward = lru_cache(maxsize=256)(triton_attention.forward)
_decode = lru_cache(maxsize=256)(triton_attention_decode.decode)
_joined = lru_cache(maxsize=256)(triton_attention_decode.joined)
_delta = lru_cache(maxsize=256)(triton_attention_backward.delta)
_of_queries = lru_cache(maxsize=256)(triton_attention_backward.of_queries)


@lru_cache(maxsize=256)
def _of_keys(form: AttentionForm, tiling: Tiling, grouped: bool) -> tuple[str, str]:
    return triton_attention_backward.of_keys(form, tiling, grouped=grouped)
