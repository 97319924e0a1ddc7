"""Cross-entropy of a linear map without its logits, forward and backward.

    l = x W^T + b,  lse = log(sum_v exp(l_v))
    loss  = lse - (1 - s) l_target - s mean_v(l_v) + z lse^2              s is label smoothing, z z-loss
    dloss/dl_v = (1 + 2 z lse) exp(l_v - lse) - (1 - s) [v = target] - s / V

A chunk of rows has its logits in one buffer, where they become their gradient; torch multiplies the matrices.
So memory is a chunk, not rows x vocabulary. The gradients of a mean or sum differ by one factor from those
with 1, and are taken while the logits are there: as many products as torch computes. Those of single losses
need the logits once more. Nothing is left out: this is the gradient, not a filtered one. Sources: z-loss is
arXiv 2204.02311 (PaLM), section 5; label smoothing as torch.nn.functional.cross_entropy has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tautomer.errors import InputError

NAME = "tautomer::linear_cross_entropy_v1"
_GRADIENT = "tautomer::linear_cross_entropy_gradient_v1"
_NUMBERS = "float label_smoothing, int ignore_index, float z_loss, bool z_of_all"
_TENSORS = "Tensor x, Tensor weight, Tensor target, Tensor? bias"
_REDUCTIONS = ("none", "mean", "sum")  # as torch numbers them

BUFFER = 1 << 26
"""Bytes of the logits of a chunk."""
_BLOCK = 1 << 18  # elements of rows that stay in cache from one operation to the next
_SLAB = 1 << 13  # rows of a gradient of W that are added to a wider sum at a time


def linear_cross_entropy(
    x: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    z_of_all: bool = False,
    reduction: str = "mean",
) -> torch.Tensor:
    """F.cross_entropy(F.linear(x, weight, bias), target) without the tensor of logits.

    Args:
        x: of shape (..., features), of a float type.
        weight: (vocabulary, features).
        target: (...), int64: indices of the vocabulary, or `ignore_index`.
        bias: (vocabulary,), or None.
        label_smoothing: the part of the target that all of the vocabulary share.
        ignore_index: targets that count for nothing; their rows are not looked at, but for `z_of_all`.
        z_loss: the factor of the squared logarithm of the normaliser, which keeps it near 1.
        z_of_all: whether ignored targets have a z-loss, too; its mean is over all rows then.
        reduction: "mean" over the targets that count, "sum", or "none".

    Returns:
        The loss, of the type of x; of the shape of target for "none".

    Raises:
        InputError: shapes or types do not fit together, or there is no such reduction.
    """
    _check(x, weight, target, bias, reduction, label_smoothing)
    if torch.is_autocast_enabled(x.device.type):
        narrow = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(narrow), weight.to(narrow)
        bias = None if bias is None else bias.to(narrow)
    operands = (x, weight, bias)
    ahead = torch.is_grad_enabled() and reduction != "none"
    wanted = [ahead and operand is not None and operand.requires_grad for operand in operands]
    rows = x.reshape(-1, x.shape[-1]), weight, target.reshape(-1), bias
    numbers = label_smoothing, ignore_index, z_loss, z_of_all
    loss: torch.Tensor = _forward(*rows, *numbers, _REDUCTIONS.index(reduction), wanted)[0]
    return loss.reshape(target.shape) if reduction == "none" else loss


def _check(
    x: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None,
    reduction: str,
    label_smoothing: float,
) -> None:
    problem = ""
    if reduction not in _REDUCTIONS:
        problem = f"there is no reduction '{reduction}', only {', '.join(_REDUCTIONS)}"
    elif weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        problem = f"x of shape {list(x.shape)} has no product with a weight of shape {list(weight.shape)}"
    elif target.shape != x.shape[:-1]:
        problem = f"target of shape {list(target.shape)} is not one index for each row of {list(x.shape)}"
    elif target.dtype != torch.int64:
        problem = f"target is {target.dtype}, where indices are int64; probabilities need the logits"
    elif bias is not None and bias.shape != weight.shape[:1]:
        problem = f"bias of shape {list(bias.shape)} is not one number for each row of the weight"
    elif not 0.0 <= label_smoothing <= 1.0:
        problem = f"label_smoothing is {label_smoothing}, and not between 0 and 1"
    if problem:
        raise InputError(problem, where="linear_cross_entropy")


@torch.library.custom_op(
    NAME,
    mutates_args=(),
    schema=f"({_TENSORS}, {_NUMBERS}, int reduction, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    z_loss: float,
    z_of_all: bool,
    reduction: int,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor, ...]:
    """The loss, and the gradients of x, W and b that are wanted, for a gradient of 1 of the loss."""
    kind, counted = _REDUCTIONS[reduction], target != ignore_index
    wide = torch.ones((), dtype=_wide(x), device=x.device)
    each, of_z = _factors(wide, counted, kind, z_of_all)
    numbers = label_smoothing, ignore_index, z_loss
    losses, *gradients = _chunked(x, weight, target, bias, each, of_z, *numbers, wanted)
    loss = losses if kind == "none" else losses.sum()
    if kind == "mean" and not counted.any():
        loss = loss * torch.nan  # as torch: a mean of nothing
    return loss.to(x.dtype), *gradients


def _factors(
    of_loss: torch.Tensor, counted: torch.Tensor, reduction: str, z_of_all: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The gradients of each row's cross-entropy, and of its z-loss where that is another one."""
    total = counted.sum().clamp(min=1) if reduction == "mean" else 1
    each = (of_loss / total).expand(counted.shape) * counted
    if not z_of_all:
        return each, None
    rows = max(1, len(counted)) if reduction == "mean" else 1
    return each, (of_loss / rows).expand(counted.shape)


@torch.library.custom_op(
    _GRADIENT,
    mutates_args=(),
    schema=f"({_TENSORS}, Tensor factors, Tensor? of_z, {_NUMBERS}, bool[] wanted)"
    " -> (Tensor, Tensor, Tensor)",
)
def _gradient(
    x: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None,
    factors: torch.Tensor,
    of_z: torch.Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    z_loss: float,
    z_of_all: bool,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor, ...]:
    """The gradients of x, W and b for a gradient of each row's loss."""
    each = factors.to(_wide(x))
    own = None if of_z is None else of_z.to(_wide(x))
    return _chunked(x, weight, target, bias, each, own, label_smoothing, ignore_index, z_loss, wanted)[1:]


def _chunked(
    x: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None,
    factors: torch.Tensor,
    of_z: torch.Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    z_loss: float,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor, ...]:
    """The losses of all rows times their factors, and the wanted gradients of the sum of these."""
    counts = target != ignore_index
    kept = None if of_z is not None or bool(counts.all()) else counts.nonzero()[:, 0]
    target = target if of_z is None else target.where(counts, 0)
    h, y, each = (one if kept is None else one[kept] for one in (x, target, factors))
    losses = torch.empty(len(y), dtype=_wide(x), device=x.device)
    of_x = torch.empty_like(h) if wanted[0] else x.new_empty(0)
    of_weight = torch.zeros_like(weight, dtype=_wide(x)) if wanted[1] else x.new_empty(0)
    of_bias = torch.zeros(len(weight), dtype=_wide(x), device=x.device) if wanted[2] else x.new_empty(0)
    step = max(1, BUFFER // max(1, len(weight) * x.element_size()))
    buffer = x.new_empty(min(step, len(y)), len(weight))
    rows_of_block = max(1, _BLOCK // max(1, len(weight)))
    for start in range(0, len(y), step):
        part = h[start : start + step]
        logits = buffer[: len(part)]
        torch.mm(part, weight.t(), out=logits)
        if bias is not None:
            logits += bias
        for first in range(0, len(part), rows_of_block):
            block = slice(first, first + rows_of_block)
            own = slice(start + first, start + min(first + rows_of_block, len(part)))
            both = each[own], each[own] if of_z is None else of_z[own]
            losses[own] = _rows(logits[block], y[own], both, label_smoothing, z_loss, any(wanted))
        if wanted[0]:
            torch.mm(logits, weight, out=of_x[start : start + step])
        if wanted[1]:
            _add_product(of_weight, logits.t(), part)
        if wanted[2]:
            of_bias += logits.sum(0, dtype=_wide(x))
    if kept is not None:
        losses = torch.zeros_like(factors).index_copy(0, kept, losses)
        of_x = torch.zeros_like(x).index_copy(0, kept, of_x) if wanted[0] else of_x
    return losses, of_x, of_weight.to(x.dtype), of_bias.to(x.dtype)


def _rows(
    logits: torch.Tensor,
    target: torch.Tensor,
    factors: tuple[torch.Tensor, torch.Tensor],
    label_smoothing: float,
    z_loss: float,
    gradient: bool,
) -> torch.Tensor:
    """The weighted losses of some rows; with `gradient`, their logits become that of these losses.

    The factors are those of cross-entropy and of the z-loss.
    """
    z, index = logits.to(_wide(logits)), target[:, None]
    each, of_z = (one[:, None] for one in factors)
    largest = z.amax(1, keepdim=True)
    picked = z.gather(1, index)
    mean = z.mean(1, keepdim=True) if label_smoothing else 0.0
    z = z.sub_(largest).exp_()
    total = z.sum(1, keepdim=True)
    lse = largest + total.log()
    losses = each * (lse - (1.0 - label_smoothing) * picked - label_smoothing * mean)
    losses = losses + of_z * (z_loss * lse * lse) if z_loss else losses
    if gradient:
        z.mul_((each + of_z * (2.0 * z_loss * lse)) / total)
        if label_smoothing:
            z.sub_(each * (label_smoothing / z.shape[1]))
        z.scatter_add_(1, index, each * (label_smoothing - 1.0))
        if z.data_ptr() != logits.data_ptr():
            logits.copy_(z)
    return losses[:, 0]


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """total += a b; where total is of a wider type, some rows at a time, which are rounded once before."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
        return
    for start in range(0, len(total), _SLAB):
        total[start : start + _SLAB] += a[start : start + _SLAB] @ b


def _wide(x: torch.Tensor) -> torch.dtype:
    """The type in which losses are computed and gradients of weights added."""
    return x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32


@_forward.register_fake
def _(
    x: Any,
    weight: Any,
    target: Any,
    bias: Any,
    smoothing: Any,
    ignored: Any,
    z: Any,
    z_of_all: Any,
    reduction: int,
    wanted: Any,
) -> Any:
    loss = x.new_empty(target.shape if _REDUCTIONS[reduction] == "none" else ())
    return loss, *_empty(x, weight, wanted)


@_gradient.register_fake
def _(
    x: Any,
    weight: Any,
    target: Any,
    bias: Any,
    factors: Any,
    of_z: Any,
    smoothing: Any,
    ignored: Any,
    z: Any,
    z_of_all: Any,
    wanted: Any,
) -> Any:
    return _empty(x, weight, wanted)


def _empty(x: Any, weight: Any, wanted: Sequence[bool]) -> tuple[Any, ...]:
    shapes = x.shape, weight.shape, weight.shape[:1]
    return tuple(x.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True))


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, target, bias, *ctx.numbers, reduction, ctx.wanted = inputs
    ctx.reduction = _REDUCTIONS[reduction]
    ctx.mark_non_differentiable(*output[1:])
    ctx.ahead = output[1:] if any(ctx.wanted) else None
    ctx.save_for_backward(x, weight, target, bias)


def _backward(ctx: Any, of_loss: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    needed = [ctx.needs_input_grad[i] for i in (0, 1, 3)]
    ahead, ctx.ahead = ctx.ahead, None  # handed on, not copied: a second backward pass computes them anew
    x, weight, target, bias = ctx.saved_tensors
    if ahead is not None and all(want or not need for want, need in zip(ctx.wanted, needed, strict=True)):
        owned = type(of_loss) is torch.Tensor  # while a graph is traced, these are values of it
        found = [one.mul_(of_loss) if owned else one * of_loss for one in ahead]
        del ahead
    else:
        ignored, z_of_all = ctx.numbers[1], ctx.numbers[3]
        each = _factors(of_loss, target != ignored, ctx.reduction, z_of_all)
        found = list(_gradient(x, weight, target, bias, *each, *ctx.numbers, needed))
    of_x, of_weight, of_bias = (one if need else None for one, need in zip(found, needed, strict=True))
    return of_x, of_weight, None, of_bias, None, None, None, None, None, None


_forward.register_autograd(_backward, setup_context=_setup)
