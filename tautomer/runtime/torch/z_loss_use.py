"""The auxiliary z-loss of a cross-entropy in a torch graph.

    cross_entropy(l, target) + c * mean(logsumexp(l)^2)       c a number; or both of them sums

Condition: both take the same rows of logits in the same way, and nothing else reads what lies between. The
mean is over all rows, ignored targets or not, while that of cross-entropy is over those that count. Source:
arXiv 2204.02311 (PaLM), section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
_PRODUCTS = (aten.mul.Tensor, aten.mul.Scalar)
_QUOTIENTS = (aten.div.Tensor, aten.div.Scalar)
_POWERS = (aten.pow.Tensor_Scalar, aten.square.default)
_REDUCTIONS = {aten.mean.default: 1, aten.mean.dim: 1, aten.sum.default: 2, aten.sum.dim_IntList: 2}


@dataclass(frozen=True)
class ZLoss:
    """A z-loss.

    Attributes:
        total: the sum of it and the cross-entropy.
        lse: the logarithm of the normaliser.
        factor: of its square.
        obstacle: why the two are no one loss, or "".
    """

    total: fx.Node
    lse: fx.Node
    factor: float
    obstacle: str = ""


def z_loss_beside(loss: fx.Node, reduction: int) -> ZLoss | None:
    """The z-loss that is added to a cross-entropy.

    Args:
        loss: the cross-entropy.
        reduction: how it is reduced, as torch numbers it.
    """
    total = next(iter(loss.users), None)
    if total is None or len(loss.users) > 1 or total.target is not aten.add.Tensor:
        return None
    alpha = total.kwargs.get("alpha", 1)
    first = total.args[0] is loss
    node = total.args[1 if first else 0]
    if not isinstance(alpha, (int, float)) or not isinstance(node, fx.Node) or not (first or alpha == 1):
        return None
    factor, squares, own, between = float(alpha), 0, 0, list[fx.Node]()
    while isinstance(node, fx.Node) and node.target is not aten.logsumexp.default:
        between.append(node)
        if node.target in _REDUCTIONS and node.meta["val"].ndim == 0:
            own = _REDUCTIONS[node.target]
            node = node.args[0]
        elif node.target in _POWERS or (node.target in _PRODUCTS and node.args[0] is node.args[1]):
            squares += 1 if _is_square(node) else 2
            node = node.args[0]
        elif (step := _scaled(node)) is not None:
            node, times = step
            factor *= times if not squares else times * times
        else:
            return None
    if not isinstance(node, fx.Node):
        return None
    between.append(node)
    return ZLoss(total, node, factor, _obstacle(between, squares, own, reduction))


def _is_square(node: fx.Node) -> bool:
    return node.target is not aten.pow.Tensor_Scalar or bool(node.args[1] == 2)


def _scaled(node: fx.Node) -> tuple[Any, float] | None:
    """What a node multiplies by a number, and the number."""
    if len(node.args) != 2 or node.kwargs:
        return None
    x, y = node.args
    if node.target in _PRODUCTS and isinstance(x, (int, float)):
        x, y = y, x
    if not isinstance(x, fx.Node) or not isinstance(y, (int, float)):
        return None
    if node.target in _PRODUCTS:
        return x, float(y)
    return (x, 1.0 / y) if node.target in _QUOTIENTS and y else None


def _obstacle(between: Sequence[fx.Node], squares: int, own: int, reduction: int) -> str:
    lse = between[-1]
    shared = next((node for node in between if len(node.users) > 1), None)
    source = lse.args[0].meta["val"]  # type: ignore[union-attr]
    axes = [axis % source.ndim for axis in lse.args[1]]  # type: ignore[union-attr]
    if shared is not None:
        return f"'{shared.name}' of its z-loss is read elsewhere, too"
    if squares != 1 or axes != [source.ndim - 1]:
        return f"what is added to it is no square of a logarithm of the normaliser, '{lse.name}'"
    if not own or own != reduction:
        return "its z-loss is reduced in another way than it is"
    return ""
