"""Puts cross-entropy without logits into a torch graph.

    cross_entropy(move(linear(x, W, b)), target)  ->  tautomer.linear_cross_entropy(move(x), W, target, b)

Condition: nothing else reads the logits; what stands between only moves rows, as shifting tokens by one does;
targets are indices without weights of classes; and there are enough logits that passes over them cost more
than computing them in chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import getitem
from typing import Any

import torch
from torch import fx

from tautomer.remarks import Remark
from tautomer.runtime.torch.linear_cross_entropy import NAME

RULE = "linear cross-entropy"
LEAST = 1 << 24
"""Logits from which on it was measured to take no more time: `python -m benchmarks.cross_entropy`."""

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
    for loss in graph.graph.find_nodes(op="call_function", target=aten.cross_entropy_loss.default):
        moves, reason = _moves(loss)
        reason = reason or _obstacle(loss, moves[-1])
        if reason:
            remarks.append(Remark("missed", RULE, "cross_entropy", loss.name, reason))
            continue
        saved = moves[-1].meta["val"].nbytes
        _place(graph.graph, loss, moves, training)
        done = f"it never has its logits, {saved / 2**20:.0f} MB of them"
        remarks.append(Remark("passed", RULE, "cross_entropy", loss.name, done))
    if any(one.kind == "passed" for one in remarks):
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
    return remarks


def _moves(loss: fx.Node) -> tuple[list[fx.Node], str]:
    """The nodes from the logits of a loss back to their linear map, the last one; or why there is none."""
    node, found = loss.args[0], list[fx.Node]()
    while isinstance(node, fx.Node):
        found.append(node)
        if len(node.users) > 1:
            return found, f"'{node.name}', its logits, are read elsewhere, too"
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


def _obstacle(loss: fx.Node, linear: fx.Node) -> str:
    """Why a loss stays, or ""."""
    target, weights = loss.args[1], _argument(loss, "weight")
    held = target.meta["val"] if isinstance(target, fx.Node) else None
    rank = loss.args[0].meta["val"].ndim  # type: ignore[union-attr]
    operands: list[torch.Tensor] = [one.meta["val"] for one in linear.args if isinstance(one, fx.Node)]
    if weights is not None:
        return "its classes have weights"
    if held is None or held.dtype != torch.int64 or held.ndim != 1 or rank != 2:
        return "its targets are no list of indices"
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


def _place(graph: fx.Graph, loss: fx.Node, moves: Sequence[fx.Node], training: set[fx.Node]) -> None:
    """Puts the operator in, behind the moves of the logits done to x."""
    x, weight, bias = (*moves[-1].args, None)[:3]
    reduction = int(_argument(loss, "reduction"))
    assert isinstance(x, fx.Node)
    wanted = [bool(reduction) and one in training for one in (x, weight, bias)]
    width = x.meta["val"].shape[-1]
    operator = getattr(torch.ops.tautomer, NAME.partition("::")[2]).default
    with graph.inserting_before(loss):

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
        numbers = float(_argument(loss, "label_smoothing")), int(_argument(loss, "ignore_index")), 0.0
        several = new(operator, x, weight, loss.args[1], bias, *numbers, reduction, wanted)
        made = graph.call_function(getitem, (several, 0))
    made.meta = {**loss.meta}
    loss.replace_all_uses_with(made)
    graph.erase_node(loss)
