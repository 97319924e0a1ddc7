"""The gradient of attention by Triton kernels: dq by tiles of queries, dk and dv by tiles of keys.

Tensors are as in `attention`; gradients lie in memory as the rows that they are of.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tautomer.codegen.triton import attention_backward as triton_attention_backward
from tautomer.codegen.triton.attention_of_keys import of_keys
from tautomer.codegen.triton.attention_of_queries import of_queries
from tautomer.codegen.triton.attention_tiles import Tiling, strides
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.triton.attention_launch import Operands, empty_like_rows, given_to, launch_tiles

if TYPE_CHECKING:
    import torch

ROW_SUMS = Tiling(64, 16, 4, 1)
"""How the kernel of delta is cut up."""


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

    tiling = ROW_SUMS
    delta = torch.empty(y.shape[:3], dtype=torch.float32, device=y.device)
    blocks = -(-y.shape[2] // tiling.rows)
    given: dict[str, Any] = {"y": y, "dy": dy, "delta": delta, "blocks": blocks}
    given |= {"H": y.shape[1], "N": y.shape[2]}
    for name, tensor in (("y", y), ("dy", dy)):
        given |= dict(zip(strides(name), tensor.stride(), strict=True))
    inputs = triton_attention_backward.delta_arguments(form)
    launch_tiles(*_delta(form), inputs, given, tiling, y, y, blocks * y.shape[0] * y.shape[1])
    return delta


def gradient_of_queries(
    form: AttentionForm, tiling: Tiling, operands: Operands, tensors: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The gradient of q; tensors: q, k, v, dy, and where the form needs them delta and statistic."""
    q, v = tensors["q"], tensors["v"]
    dq = empty_like_rows(q, q.shape[-1])
    blocks = -(-q.shape[2] // tiling.rows)
    given = given_to(form, operands, {**tensors, "dq": dq}) | {"blocks": blocks}
    inputs = triton_attention_backward.arguments(form, tiling, ("dq",))
    launch_tiles(*_of_queries(form, tiling), inputs, given, tiling, q, v, blocks * q.shape[0] * q.shape[1])
    return dq


def gradients_of_keys(
    form: AttentionForm, tiling: Tiling, operands: Operands, tensors: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of k and v; tensors as in `gradient_of_queries`."""
    q, k, v = tensors["q"], tensors["k"], tensors["v"]
    results = {"dk": empty_like_rows(k, k.shape[-1]), "dv": empty_like_rows(v, v.shape[-1])}
    blocks = -(-k.shape[2] // tiling.keys)
    given = given_to(form, operands, {**tensors, **results}) | {"blocks": blocks}
    inputs = triton_attention_backward.arguments(form, tiling, ("dk", "dv"))
    named = _of_keys(form, tiling, q.shape[1] != k.shape[1])
    launch_tiles(*named, inputs, given, tiling, q, v, blocks * k.shape[0] * k.shape[1])
    return results["dk"], results["dv"]


_delta = lru_cache(maxsize=256)(triton_attention_backward.delta)
_of_queries = lru_cache(maxsize=256)(of_queries)


@lru_cache(maxsize=256)
def _of_keys(form: AttentionForm, tiling: Tiling, grouped: bool) -> tuple[str, str]:
    return of_keys(form, tiling, grouped=grouped)
