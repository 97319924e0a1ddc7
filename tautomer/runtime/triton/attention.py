"""Attention by Triton kernels, forward: of many queries by tiles, of one by as many programs as there are.

Every function takes tensors as [B, H, N, d], [B, G, M, d] and [B, G, M, e] with any strides, and writes
results in the layout of q's rows, so that the transposes around attention need no copy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tautomer.codegen.triton import attention as triton_attention
from tautomer.codegen.triton import attention_decode as triton_attention_decode
from tautomer.codegen.triton.attention_scores import Scores
from tautomer.codegen.triton.attention_tiles import Tiling, padded
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.triton.attention_launch import Operands, empty_like_rows, given_to, launch_tiles

if TYPE_CHECKING:
    import torch

# programs that one query is spread over, and parts of its keys, at most
_PROGRAMS, _PARTS = 528, 128


def attend(
    form: AttentionForm, tiling: Tiling, operands: Operands, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The result, and the statistic of each row that its gradient needs, or None."""
    import torch

    y = empty_like_rows(q, v.shape[-1])
    saved = Scores(form).divided and form.function.second is None
    statistic = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device) if saved else None
    given = given_to(form, operands, {"q": q, "k": k, "v": v, "y": y})
    given["statistic"] = statistic
    blocks = -(-q.shape[2] // tiling.rows)
    inputs, programs = triton_attention.arguments(form, tiling), blocks * q.shape[0] * q.shape[1]
    launch_tiles(*_forward(form, tiling), inputs, given | {"blocks": blocks}, tiling, q, v, programs)
    return y, statistic


def attend_one(
    form: AttentionForm, tiling: Tiling, operands: Operands, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """The result for a single query [B, H, 1, d], by keys that many programs share."""
    import torch

    batch, heads, _, _ = q.shape
    groups, columns, width = k.shape[1], k.shape[2], v.shape[3]
    if not batch * groups:
        return empty_like_rows(q, width)
    blocks = max(1, min(_PARTS, -(-_PROGRAMS // (batch * groups)), columns // (4 * tiling.keys)))
    y = empty_like_rows(q, width)
    part = torch.empty((batch, heads, blocks, width), dtype=torch.float32, device=q.device)
    tops, totals = (torch.empty(part.shape[:3], dtype=torch.float32, device=q.device) for _ in range(2))
    given = given_to(form, operands, {"q": q, "k": k, "v": v, "y": y})
    given |= {"part": part, "tops": tops, "totals": totals, "blocks": blocks}
    inputs = triton_attention_decode.arguments(form)
    tiling = replace(tiling, rows=padded(heads // groups))
    launch_tiles(*_decode(form, tiling), inputs, given, tiling, q, v, blocks * batch * groups)
    join = Tiling(1 << (blocks - 1).bit_length(), 16, 4, 1)
    launch_tiles(
        *_joined(form), triton_attention_decode.joined_arguments(form), given, join, q, v, batch * heads
    )
    return y


_forward = lru_cache(maxsize=256)(triton_attention.forward)
_decode = lru_cache(maxsize=256)(triton_attention_decode.decode)
_joined = lru_cache(maxsize=256)(triton_attention_decode.joined)
