"""Puts cross-entropy without logits into a torch graph.

    cross_entropy(move(linear(x, W, b)), target)  ->  tautomer.linear_cross_entropy(move(x), W, target, b)
    nll_loss(log_softmax(...), target)            ->  the same
    gather(log_softmax(...), -1, i)               ->  its losses by row, negated; in inference
    cross_entropy(...) + c * its z-loss           ->  tautomer.linear_cross_entropy(..., z_loss=c)

Condition: nothing else reads the logits; what stands between only moves rows, as shifting tokens by one does;
targets are indices without weights of classes; and there are enough logits that passes over them cost more
than computing them in chunks. Losses by row are left alone in training, which would need the logits twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from operator import getitem
from typing import Any

import torch
from torch import fx

from tautomer.remarks import Remark
from tautomer.runtime.torch.linear_cross_entropy import NAME
from tautomer.runtime.torch.z_loss_use import ZLoss, z_loss_beside

RULE = "linear cross-entropy"
LEAST = 1 << 24
"""Logits from which on it was measured to take no more time: `python -m benchmarks.cross_entropy`."""

_NOTHING = -1 << 62  # an index that no target is
aten = torch.ops.aten
_SIZED = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
_SAME = (aten.contiguous.default, aten.clone.default, aten.alias.default)
_CONVERSIONS = (aten.to.dtype, aten._to_copy.default)


def use_cross_entropy(graph: fx.GraphModule, inputs: Sequence[Any]) -> list[Remark]:
    """Changes a pre-dispatch ATen graph so that losses of linear maps are computed without their logits.

    Args:
        graph: with `meta["val"]` on its nodes; it is changed in place.
        inputs: what its placeholders get; those that want gradients say so.

    Returns:
        "passed" for each loss that was put in, and "missed" with the reason for each that was not.
    """
    remarks: list[Remark] = []
    training = _wanting(graph, inputs)
    for node in list(graph.graph.nodes):
        loss = _loss(node)
        if loss is None:
            continue
        loss = _with_z_loss(loss)
        moves, reason = _moves(loss)
        reason = reason or _obstacle(loss, moves[-1], node in training)
        if reason:
            remarks.append(Remark("missed", RULE, "cross_entropy", node.name, reason))
            continue
        saved = moves[-1].meta["val"].nbytes
        _place(graph.graph, loss, moves, training)
        done = f"it never has its logits, {saved / 2**20:.0f} MB of them"
        remarks.append(Remark("passed", RULE, "cross_entropy", node.name, done))
    if any(one.kind == "passed" for one in remarks):
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
    return remarks


@dataclass(frozen=True)
class _Loss:
    """A loss, or log-probabilities that are chosen by an index.

    Attributes:
        node: its last node.
        logits: what it is the loss of.
        target: the indices, in its shape or with one more axis of length 1.
        weight: of classes, or None.
        numbers: label_smoothing and ignore_index.
        reduction: as torch numbers it.
        z: its z-loss.
        fork: of its logits and what moves their rows, the node that the z-loss reads.
    """

    node: fx.Node
    logits: Any
    target: Any
    weight: Any
    numbers: tuple[float, int]
    reduction: int
    z: ZLoss | None = None
    fork: fx.Node | None = None


def _loss(node: fx.Node) -> _Loss | None:
    """The loss that a node ends."""
    if node.target is aten.cross_entropy_loss.default:
        numbers = float(_argument(node, "label_smoothing")), int(_argument(node, "ignore_index"))
        return _Loss(
            node, node.args[0], node.args[1], _argument(node, "weight"), numbers, _argument(node, "reduction")
        )
    source = node.args[0] if node.args else None
    if node.target not in (aten.nll_loss_nd.default, aten.gather.default) or not isinstance(source, fx.Node):
        return None
    if source.target is not aten.log_softmax.int or len(source.users) > 1 or _argument(source, "dtype"):
        return None
    last = source.meta["val"].ndim - 1
    if int(source.args[1]) % (last + 1) != last:  # type: ignore[arg-type]
        return None
    if node.target is aten.nll_loss_nd.default:
        numbers = 0.0, int(_argument(node, "ignore_index"))
        weight, reduction = _argument(node, "weight"), _argument(node, "reduction")
        return _Loss(node, source.args[0], node.args[1], weight, numbers, reduction)
    index = node.args[2]
    shape = index.meta["val"].shape if isinstance(index, fx.Node) else ()
    if int(node.args[1]) % (last + 1) != last or shape != (*source.meta["val"].shape[:-1], 1):  # type: ignore[arg-type]
        return None
    return _Loss(node, source.args[0], index, None, (0.0, _NOTHING), 0)


def _with_z_loss(loss: _Loss) -> _Loss:
    """The loss with the z-loss of its own logits that is added to it."""
    z = z_loss_beside(loss.node, loss.reduction)
    if z is None:
        return loss
    fork: Any = z.lse.args[0]
    while isinstance(fork, fx.Node) and len(fork.users) == 1 and fork.target in (*_SIZED, *_SAME):
        fork = fork.args[0]
    node, width = loss.logits, z.lse.args[0].meta["val"].shape[-1]  # type: ignore[union-attr]
    while isinstance(node, fx.Node) and node.target in (*_SIZED, *_SAME, aten.slice.Tensor):
        if node is fork:
            break
        node = node.args[0]
    same = node is fork and isinstance(fork, fx.Node) and fork.meta["val"].shape[-1] == width
    return replace(loss, z=z, fork=fork) if same else loss


def _moves(loss: _Loss) -> tuple[list[fx.Node], str]:
    """The nodes from the logits of a loss back to their linear map, the last one; or why there is none."""
    node, found = loss.logits, list[fx.Node]()
    while isinstance(node, fx.Node):
        found.append(node)
        if len(node.users) > (2 if node is loss.fork else 1):
            return found, f"'{node.name}', its logits, are read elsewhere, too"
        if node is loss.fork and loss.z is not None and loss.z.obstacle:
            return found, loss.z.obstacle
        if node is loss.fork and any(move.target is aten.slice.Tensor for move in found[:-1]):
            return found, "its z-loss takes rows that it does not take itself"
        if node.target is aten.linear.default:
            return found, ""
        held, source = node.meta.get("val"), node.args[0] if node.args else None
        before = source.meta.get("val") if isinstance(source, fx.Node) else None
        if not isinstance(held, torch.Tensor) or not isinstance(before, torch.Tensor):
            break
        if not _moves_rows(node, before, held):
            return found, f"node '{node.name}' ({node.target}) stands between it and a linear map"
        node = source
    return found, "its logits are no linear map's"


def _moves_rows(node: fx.Node, before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether a node moves rows of the last axis, and leaves each as it is."""
    if (
        before.dtype != after.dtype
        or not before.ndim
        or not after.ndim
        or before.shape[-1] != after.shape[-1]
    ):
        return False
    if node.target is aten.slice.Tensor:
        return int(node.args[1] if len(node.args) > 1 else 0) % before.ndim != before.ndim - 1  # type: ignore[arg-type]
    return node.target in (*_SIZED, *_SAME, *_CONVERSIONS)


def _obstacle(loss: _Loss, linear: fx.Node, trains: bool) -> str:
    """Why a loss stays, or ""."""
    held = loss.target.meta["val"] if isinstance(loss.target, fx.Node) else None
    rank = loss.logits.meta["val"].ndim
    operands: list[torch.Tensor] = [one.meta["val"] for one in linear.args if isinstance(one, fx.Node)]
    if loss.weight is not None:
        return "its classes have weights"
    gathers = loss.node.target is aten.gather.default
    if held is None or held.dtype != torch.int64 or not (gathers or (held.ndim == 1 and rank == 2)):
        return "its targets are no list of indices"
    if trains and not loss.reduction:
        return "the gradients of losses by row need the logits twice"
    if len({one.dtype for one in operands}) > 1 or operands[1].ndim != 2:
        return "its linear map computes on several types"
    if operands[0].device.type != "cpu":
        return "it was measured on a CPU only"
    sizes = linear.meta["val"].shape
    if not all(isinstance(size, int) for size in sizes):
        return "the number of its logits is not known before it runs"
    if prod(sizes) < LEAST:
        return f"it has {prod(sizes)} logits: from {LEAST} on it gains"
    return ""


def _argument(node: fx.Node, name: str) -> Any:
    """An argument by its name in the schema, or its default."""
    for index, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.name == name:
            default = argument.default_value if argument.has_default_value() else None
            return node.args[index] if index < len(node.args) else node.kwargs.get(name, default)
    raise KeyError(name)


def _wanting(graph: fx.GraphModule, inputs: Sequence[Any]) -> set[fx.Node]:
    """The nodes whose gradient somebody wants: those that depend on an input that has one."""
    found: set[fx.Node] = set()
    if not torch.is_grad_enabled():
        return found
    given = iter(inputs)
    for node in graph.graph.nodes:
        own = getattr(next(given, None), "requires_grad", False) if node.op == "placeholder" else False
        parameter = node.op == "get_attr"  # of what a graph holds itself nothing is known
        if own or parameter or any(one in found for one in node.all_input_nodes):
            found.add(node)
    return found


def _place(graph: fx.Graph, loss: _Loss, moves: Sequence[fx.Node], training: set[fx.Node]) -> None:
    """Puts the operator in, behind the moves of the logits done to x."""
    x, weight, bias = (*moves[-1].args, None)[:3]
    assert isinstance(x, fx.Node)
    wanted = [one in training for one in (x, weight, bias)]
    width = x.meta["val"].shape[-1]
    operator = getattr(torch.ops.tautomer, NAME.partition("::")[2]).default
    last = loss.node if loss.z is None else loss.z.total
    with graph.inserting_before(last):

        def new(target: Any, *args: Any, **kwargs: Any) -> fx.Node:
            made = graph.call_function(target, args, kwargs)
            given, named = fx.map_arg((args, kwargs), lambda one: one.meta["val"])
            made.meta["val"] = target(*given, **named)
            return made

        for move in reversed(moves[:-1]):
            rest = move.args[1:]
            if move.target in _SIZED:
                rest = ([*rest[0][:-1], width],)  # type: ignore[index, misc]
            target = aten.reshape.default if move.target in _SIZED else move.target
            x = new(target, x, *rest, **move.kwargs)
        rows, index = new(aten.reshape.default, x, [-1, width]), new(aten.reshape.default, loss.target, [-1])
        smoothing, ignored = loss.numbers
        z = (0.0, False) if loss.z is None else (loss.z.factor, True)
        several = new(operator, rows, weight, index, bias, smoothing, ignored, *z, loss.reduction, wanted)
        made = new(getitem, several, 0)
        if loss.node.target is aten.gather.default:
            made = new(aten.reshape.default, new(aten.neg.default, made), loss.node.meta["val"].shape)
    made.meta = {**last.meta}
    last.replace_all_uses_with(made)
    graph.erase_node(last)
