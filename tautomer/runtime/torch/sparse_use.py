"""Puts sparse linear maps into a torch graph behind activations with exact zeros.

    linear(relu(x), W, b)                    ->  tautomer.sparse_linear(relu(x), W^T, b, finite)
    linear(relu(g) * linear(x, U, c), W, b)  ->  tautomer.sparse_gated_linear(x, relu(g), U, c, W^T, ...)

Both sides are the same function where the weights are finite, and `finite` tells the operator whether they
are; it leaves nothing out where not. W^T and `finite` depend on weights alone, so they are computed when
these change, see `weight_values`. Where the zeros come from is found by evaluation, as everywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any

import torch
from torch import fx

from tautomer.codegen.storage import DTYPES
from tautomer.patterns.exact_zeros import GRID, has_zeros
from tautomer.patterns.sparse_linear import FEW, WEIGHT_LIMITS
from tautomer.remarks import Remark
from tautomer.runtime.torch.compat import OpOverload
from tautomer.runtime.torch.ops_gains import no_gain_on_gpu
from tautomer.runtime.torch.sparse_cuda import attach_sparse_cuda
from tautomer.runtime.torch.sparse_library import attach_sparse, sparse_operator

RULE = "sparse linear"
LEAST = 1 << 18
"""Elements of a matrix from which on it gains; the call of an operator costs some microseconds."""

_DEEPEST = 8  # nodes of an activation
aten = torch.ops.aten


def use_sparse(graph: fx.GraphModule, weights: Collection[fx.Node]) -> list[Remark]:
    """Changes a pre-dispatch ATen graph so that it calls sparse linear maps where that gains.

    Args:
        graph: with `meta["val"]` on its nodes; it is changed in place.
        weights: nodes whose values do not change from call to call.

    Returns:
        "passed" for each operator that was put in, and "missed" with the reason for each that was not.
    """
    remarks: list[Remark] = []
    for node in graph.graph.find_nodes(op="call_function", target=aten.linear.default):
        h = node.args[0]
        if not isinstance(h, fx.Node):
            continue
        factors = _factors(h)
        zero = next((one for one in (h, *factors) if _is_often_zero(one)), None)
        if zero is None:
            continue
        reason = _obstacle(node, weights)
        if reason:
            remarks.append(Remark("missed", RULE, "linear", node.name, reason))
            continue
        up = next((one for one in factors if one is not zero), None) if zero is not h else None
        if up is not None and not _skips(up, zero, h, weights):
            up = None
        _place(graph.graph, node, zero if up is not None else h, up)
        what = "its weight" if up is None else "two weights"
        remarks.append(Remark("passed", RULE, "linear", node.name, f"zeros spare rows of {what}"))
    if any(one.kind == "passed" for one in remarks):
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
    return remarks


def _factors(h: fx.Node) -> tuple[fx.Node, ...]:
    """The two nodes that a node is the product of."""
    factors = tuple(one for one in h.args if isinstance(one, fx.Node))
    return factors if h.target is aten.mul.Tensor and len(set(factors)) == 2 else ()


def _is_often_zero(node: fx.Node) -> bool:
    """Whether a node is a pointwise function of one other node that has exact zeros."""
    waiting, inside = {node}, []
    for _ in range(_DEEPEST):
        last = max(waiting)
        if not _is_pointwise(last):
            return False
        inside.append(last)
        waiting.remove(last)
        waiting |= {one for one in last.all_input_nodes if not _is_number(one, inside)}
        if len(waiting) == 1 and _zeros(inside[::-1], *waiting):
            return True
    return False


def _is_pointwise(node: fx.Node) -> bool:
    target = node.target
    if not isinstance(target, OpOverload):
        return False
    # torch forgot the tag on those with a number
    return torch.Tag.pointwise in target.tags or target.overloadpacket is aten.where


def _is_number(node: fx.Node, inside: list[fx.Node]) -> bool:
    if node.target not in (aten.full.default, aten.scalar_tensor.default) or node.all_input_nodes:
        return False
    if node not in inside:
        inside.append(node)
    return True


def _zeros(inside: list[fx.Node], source: fx.Node) -> bool:
    """Evaluates nodes on usual numbers."""
    known: dict[fx.Node, Any] = {source: torch.from_numpy(GRID.copy())}
    try:
        for node in sorted(inside):
            args = fx.map_arg(node.args, known.__getitem__)
            known[node] = node.target(*args, **node.kwargs)  # type: ignore[operator]
    except (RuntimeError, TypeError, KeyError):
        return False
    return bool(has_zeros(known[max(inside)].double().numpy()))


def _obstacle(node: fx.Node, weights: Collection[fx.Node]) -> str:
    """Why a linear map stays, or ""."""
    h, weight, bias = (*node.args, None)[:3]
    x, w, y = (one.meta.get("val") if isinstance(one, fx.Node) else None for one in (h, weight, node))
    if weight not in weights or not isinstance(x, torch.Tensor) or not isinstance(w, torch.Tensor):
        return "its weight may change from call to call"
    dtype = str(x.dtype).removeprefix("torch.")
    on_gpu = x.device.type == "cuda"
    if not (on_gpu or x.device.type == "cpu"):
        return f"no kernel is written for {x.device.type}"
    if dtype not in DTYPES or not x.dtype == w.dtype == y.dtype:  # type: ignore[union-attr]
        return "no kernel is written for its types"
    if bias is not None and (not isinstance(bias, fx.Node) or bias.meta["val"].dtype != x.dtype):
        return "its bias is of another type"
    if not all(isinstance(size, int) for size in x.shape):
        return "its size is not known before it runs"
    if prod(x.shape[:-1]) > FEW:
        return f"its {prod(x.shape[:-1])} rows meet nearly every neuron between them: up to {FEW} rows gain"
    if w.numel() < LEAST:
        return f"its weight has {w.numel()} elements: from {LEAST} on it gains"
    if on_gpu:
        return no_gain_on_gpu(RULE, dtype, x, trains=False) or attach_sparse_cuda(x)
    return attach_sparse(dtype)


def _skips(up: fx.Node, gate: fx.Node, h: fx.Node, weights: Collection[fx.Node]) -> bool:
    """Whether a factor is a linear map that can be skipped where the other is zero."""
    if up.target is not aten.linear.default or len(up.users) != 1 or len(h.users) != 1:
        return False
    x, weight, bias = (*up.args, None)[:3]
    given = [one for one in (x, weight, bias) if isinstance(one, fx.Node)]
    values = [one.meta.get("val") for one in given]
    dtype = gate.meta["val"].dtype
    same = all(isinstance(one, torch.Tensor) and one.dtype == dtype for one in values)
    return (
        same and all(one in weights for one in given[1:]) and up.meta["val"].shape == gate.meta["val"].shape
    )


def _place(graph: fx.Graph, node: fx.Node, h: fx.Node, up: fx.Node | None) -> None:
    """Puts the operator in, and what it wants of weights before it."""
    _, weight, bias = (*node.args, None)[:3]
    limit = WEIGHT_LIMITS[str(h.meta["val"].dtype).removeprefix("torch.")]
    assert isinstance(weight, fx.Node)
    with graph.inserting_before(node):

        def new(target: Any, *args: Any, **kwargs: Any) -> fx.Node:
            made = graph.call_function(target, args, kwargs)
            made.meta["val"] = target(*fx.map_arg(args, lambda one: one.meta["val"]), **kwargs)
            return made

        def within(one: fx.Node, most: float) -> fx.Node:
            return new(aten.all.default, new(aten.le.Scalar, new(aten.abs.default, one), most))

        finite = within(weight, torch.finfo(weight.meta["val"].dtype).max)
        rows = new(aten.clone.default, new(aten.t.default, weight), memory_format=torch.contiguous_format)
        if up is None:
            made = new(sparse_operator(gated=False), h, rows, bias, finite)
        else:
            x, above, above_bias = (*up.args, None)[:3]
            for one in filter(None, (above, above_bias)):
                finite = new(aten.logical_and.default, finite, within(one, limit))  # type: ignore[arg-type]
            made = new(sparse_operator(gated=True), x, h, above, above_bias, rows, bias, finite)
    made.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(made)
    graph.erase_node(node)
