"""Sparse linear maps on tensors of a GPU, by Triton kernels; see `codegen.triton_sparse`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tautomer.codegen.triton.sparse import JOIN, SparseTile, dots, dots_tile, join, sums, sums_tile
from tautomer.runtime.triton.device import multiprocessors
from tautomer.runtime.triton.grid import Launch, launch

if TYPE_CHECKING:
    import torch


def sparse_linear(
    h: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    finite: torch.Tensor,
    *,
    tile: SparseTile | None = None,
    traced: bool = False,
) -> torch.Tensor:
    """h W + b.

    Args:
        h: [..., neurons], of at most `patterns.sparse_linear.FEW` rows, in W's type or float32.
        weight: W [neurons, outputs], of float32, float16 or bfloat16.
        bias: b [outputs], or None.
        finite: one truth: whether W is finite; where it is not, nothing is left out.
        tile: how to sum up; by default what the sizes and the device ask for.
        traced: see `grid.launch`.

    Returns:
        [..., outputs], in W's type.
    """
    import torch

    neurons, outputs = weight.shape
    rows = h.numel() // neurons
    tile = tile or sums_tile(neurons, outputs, weight.element_size(), multiprocessors(h.device))
    parts, blocks = -(-neurons // tile.chunk), -(-outputs // tile.block)
    partial = torch.empty((parts, rows, outputs), dtype=torch.float32, device=h.device)
    y = torch.empty((*h.shape[:-1], outputs), dtype=weight.dtype, device=h.device)
    given = (h.contiguous(), weight.contiguous(), finite, partial, neurons, outputs)
    launch(_launch(sums(rows), parts * blocks, tile), given, h.device, traced=traced)
    biases = () if bias is None else (bias.contiguous(),)
    given_sums = (partial, *biases, y, parts, rows * outputs, outputs)
    how = _launch(join(bias is not None), -(-rows * outputs // JOIN.block), JOIN)
    launch(how, given_sums, h.device, traced=traced)
    return y


def sparse_gated_linear(
    x: torch.Tensor,
    gate: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    finite: torch.Tensor,
    *,
    tiles: tuple[SparseTile | None, SparseTile | None] = (None, None),
    traced: bool = False,
) -> torch.Tensor:
    """(gate * (x U^T + c)) W + b.

    Args:
        x: [..., inputs], with as many rows as the gate.
        gate: [..., neurons], as h above.
        up: U [neurons, inputs].
        up_bias: c [neurons], or None.
        weight, bias, finite: as above; `finite` is of U and c, too, with limits of their own.
        tiles: of the products with U, and of the sums.
        traced: see `grid.launch`.
    """
    import torch

    neurons, inputs = up.shape
    rows = gate.numel() // neurons
    dtype = str(x.dtype).removeprefix("torch.")
    tile = tiles[0] or dots_tile(neurons, rows, up.element_size(), multiprocessors(x.device))
    factors = torch.empty(gate.shape, dtype=torch.float32, device=x.device)
    biases = () if up_bias is None else (up_bias.contiguous(),)
    given = (x.contiguous(), gate.contiguous(), up.contiguous(), *biases, finite, factors, inputs, neurons)
    how = _launch(dots(rows, up_bias is not None, dtype), -(-neurons // tile.chunk), tile)
    launch(how, given, x.device, traced=traced)
    return sparse_linear(factors, weight, bias, finite, tile=tiles[1], traced=traced)


def _launch(named: tuple[str, str], programs: int, tile: SparseTile) -> Launch:
    import torch

    tile = replace(tile, warps=tile.warps // 2) if torch.version.hip else tile  # of 64 threads each
    return Launch(*named, programs, tile.constants(), tile.warps)
