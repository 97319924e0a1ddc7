"""Puts operators of ours into a torch graph, where they were measured to gain on what inductor makes of it.

    layer_norm(x, (n,), w, b, eps)          ->  tautomer.layer_norm(x, w, b, eps)
    s = a + b; y = layer_norm(s, ...)       ->  y, s = tautomer.add_layer_norm(a, b, ...)

Both sides are the same function, and an operator takes the place of what it replaces. Inductor cannot look
into an operator of ours, so it fuses nothing with it. That is no loss for rows, which it goes over two or
three times, and none for an activation between matrix products, or what the caller gives and gets, which it
fuses with neither; others are left to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import fx

from tautomer.codegen.storage import DTYPES
from tautomer.codegen.torch.operators import forward, operator_of
from tautomer.remarks import Remark
from tautomer.runtime.torch.compat import OpOverload
from tautomer.runtime.torch.ops_gains import no_gain, no_gain_on_gpu
from tautomer.runtime.torch.ops_library import attach, attach_cuda
from tautomer.runtime.torch.ops_rules import overload
from tautomer.runtime.torch.ops_tanh import tanh_gelu

RULE = "kernels"
_FUSED = "inductor fuses it with what is around it"
aten = torch.ops.aten


@dataclass(frozen=True)
class Site:
    """A node that an operator of ours can take the place of.

    Attributes:
        name: the operator, without version.
        x: what it works on.
        operands: a scale and a bias, as nodes or None.
        numbers: its parameters.
        gate: a second tensor of the shape of x.
        inner: nodes that go with it, each after those that read it.
    """

    name: str
    x: fx.Node
    operands: tuple[fx.Node | None, ...] = ()
    numbers: tuple[float, ...] = ()
    gate: fx.Node | None = None
    inner: tuple[fx.Node, ...] = ()


def use_kernels(graph: fx.GraphModule) -> list[Remark]:
    """Changes a pre-dispatch ATen graph so that it calls our operators where that gains.

    Args:
        graph: with `meta["val"]` on its nodes; it is changed in place.

    Returns:
        "passed" for each operator that was put in, and "missed" with the reason for each that was not.
    """
    mutates = any(
        isinstance(node.target, OpOverload) and node.target._schema.is_mutable for node in graph.graph.nodes
    )
    remarks: list[Remark] = []
    for node in list(graph.graph.nodes):
        site = _site(node)
        if isinstance(site, str):
            remarks.append(Remark("missed", RULE, _op(node), node.name, site))
        elif site is not None:
            remarks.append(_place(graph.graph, node, site, mutates))
    if any(one.kind == "passed" for one in remarks):
        graph.graph.lint()
        graph.recompile()
    return remarks


def _op(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _site(node: fx.Node) -> Site | str | None:
    """What a node is, why it is left alone, or None for what we have nothing for."""
    read = _READ.get(node.target) if node.op == "call_function" else None
    if read is None:
        return None
    found = read(node)
    if not isinstance(found, Site):
        return found
    x, y = found.x.meta.get("val"), node.meta.get("val")
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
        return "its type is not known"
    if x.device.type not in ("cpu", "cuda"):
        return f"there are no kernels for {x.device.type}"
    dtype = _dtype(x)
    if dtype not in DTYPES or y.dtype != x.dtype:
        return f"there is no kernel from {dtype} to {_dtype(y)}"
    if not isinstance(x.shape[-1] if x.dim() else 1, int):
        return "the length of its rows is not known before it runs"
    if any(operand is not None and not _fits(operand, x) for operand in found.operands):
        return "a scale or bias is not a row of the type of x, or of float32"
    gate = x if found.gate is None else found.gate.meta.get("val")
    if not isinstance(gate, torch.Tensor) or not _like(gate, x):
        return "its gate is not like x"
    return found


def _like(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have one type and shape; the graph is not bound to more than it was."""
    return one.dtype == other.dtype and [*map(_size, one.shape)] == [*map(_size, other.shape)]


def _size(size: Any) -> Any:
    return size if isinstance(size, int) else size.node.expr


def _elements(x: torch.Tensor) -> int:
    """How many there are; an open size counts as in the example."""
    return math.prod(size if isinstance(size, int) else int(size.node.hint or 1) for size in x.shape)


def _fits(operand: fx.Node, x: torch.Tensor) -> bool:
    row = operand.meta.get("val")
    return (
        isinstance(row, torch.Tensor)
        and tuple(row.shape) == tuple(x.shape[-1:])
        and row.dtype in (x.dtype, torch.float32)
    )


def _place(graph: fx.Graph, node: fx.Node, site: Site, mutates: bool) -> Remark:
    """Puts an operator in, together with the addition before it where there is one."""
    x = site.x.meta["val"]
    tensors = [one.meta["val"] for one in (site.x, *site.operands) if one is not None]
    trains = torch.is_grad_enabled() and any(one.requires_grad for one in tensors)

    def declined(name: str) -> str:
        operator = operator_of(name)
        if x.device.type == "cuda":
            return no_gain_on_gpu(name, _dtype(x), x, trains=trains) or attach_cuda(operator, x)
        return no_gain(name, _dtype(x), _elements(x), trains=trains) or attach(operator, _dtype(x))

    total, name = _addition(site, mutates), f"add_{site.name}"
    if total is None or not _ready(total, site) or declined(name):
        total, name = None, site.name
        reason = declined(name)
        if reason:
            return Remark("missed", RULE, _op(node), node.name, reason)
    operator, at = operator_of(name), node if total is None else total
    first = total.args if total is not None else (site.x,) if site.gate is None else (site.x, site.gate)
    inputs = (*first, *site.operands)
    with graph.inserting_before(at):
        made = graph.call_function(overload(forward(operator)), (*inputs, *site.numbers))
        made.meta["val"] = node.meta["val"] if total is None else (node.meta["val"], x)
        results = [made]
        if total is not None:
            results = [graph.call_function(getitem, (made, k)) for k in range(2)]
            for result, val in zip(results, made.meta["val"], strict=True):
                result.meta["val"] = val
    for old, new in zip((node, total), results, strict=False):
        if old is not None:
            old.replace_all_uses_with(new)
            graph.erase_node(old)
    for old in site.inner:
        graph.erase_node(old)
    return Remark("passed", RULE, _op(node), node.name, f"as {operator.named()}")


def _addition(site: Site, mutates: bool) -> fx.Node | None:
    """The addition of two tensors of one shape whose sum is normalised."""
    total = site.x
    if mutates or total.target is not aten.add.Tensor or total.kwargs or f"add_{site.name}" not in _WITH_SUM:
        return None
    values = [one.meta.get("val") if isinstance(one, fx.Node) else None for one in total.args]
    if len(values) != 2 or not all(isinstance(one, torch.Tensor) for one in values):
        return None
    own = total.meta["val"]
    return total if all(_like(one, own) for one in values if one is not None) else None


def _ready(total: fx.Node, site: Site) -> bool:
    """Whether all that the operator reads is there where the addition stands."""
    return all(operand is None or operand < total for operand in site.operands)


def _layer_norm(node: fx.Node) -> Site | str:
    x, shape, weight, bias, epsilon, *_ = (*node.args, None, None, None)[:5]
    epsilon = 1e-5 if len(node.args) < 5 else epsilon
    return _norm("layer_norm", node, x, shape, (weight, bias), epsilon)


def _rms_norm(node: fx.Node) -> Site | str:
    x, shape, weight, epsilon = (*node.args, None, None)[:4]
    if epsilon is None:
        return "its epsilon is left to torch"
    return _norm("rms_norm", node, x, shape, (weight,), epsilon)


def _norm(name: str, node: fx.Node, x: Any, shape: Any, rows: tuple[Any, ...], epsilon: Any) -> Site | str:
    if node.kwargs or isinstance(epsilon, fx.Node):
        return "its epsilon is computed in the graph"
    if len(shape) != 1:
        return "its rows span several axes"
    return Site(name, x, rows, (float(epsilon),))


def _softmax(name: str) -> Callable[[fx.Node], Site | str]:
    def read(node: fx.Node) -> Site | str:
        x, axis, *rest = node.args
        val = x.meta.get("val") if isinstance(x, fx.Node) else None
        if not isinstance(x, fx.Node) or not isinstance(val, torch.Tensor):
            return "its type is not known"
        if axis not in (-1, val.dim() - 1) or val.dim() == 0:
            return "its rows are not along the last axis"
        if node.kwargs or (rest and rest[0] not in (None, val.dtype)):
            return "it changes the type"
        return Site(name, x)

    return read


def _gelu(node: fx.Node) -> Site | str:
    (x,) = node.args
    approximate = node.kwargs.get("approximate", "none")
    if not isinstance(x, fx.Node) or not _alone(node, x):
        return _FUSED
    return Site("gelu_tanh" if approximate == "tanh" else "gelu", x)


def _product(node: fx.Node) -> Site | str | None:
    """silu(x) * gate, gelu(x) * gate, or the GELU with tanh as the passes write it."""
    found = tanh_gelu(node)
    if found is None:
        return _gated(node)
    x, inner = found
    return Site("gelu_tanh", x, inner=inner) if _alone(node, x) else _FUSED


def _gated(node: fx.Node) -> Site | str | None:
    factors = [one for one in node.args if isinstance(one, fx.Node)]
    if node.kwargs or len(factors) != 2:
        return None
    for active, gate in (factors, factors[::-1]):
        if active.target not in _GATED or len(active.users) != 1 or active is gate:
            continue
        (x,) = active.args
        if not isinstance(x, fx.Node) or not _alone(node, x, gate):
            return _FUSED
        exact = active.kwargs.get("approximate", "none") == "none"
        if active.target is aten.silu.default:
            return Site("swiglu", x, numbers=(1.0,), gate=gate, inner=(active,))
        return Site("geglu" if exact else "geglu_tanh", x, gate=gate, inner=(active,))
    return None


def _alone(node: fx.Node, *given: fx.Node) -> bool:
    """Whether matrix products or the caller give these, and only they read the result."""
    for value in given:
        while value.target in _VIEWS and isinstance(value.args[0], fx.Node):
            value = value.args[0]
        if value.op != "placeholder" and value.target not in _PRODUCTS:
            return False
    readers = list(node.users)
    for reader in readers:
        if reader.target in _VIEWS:
            readers += reader.users
    return all(one.op == "output" or one.target in _PRODUCTS or one.target in _VIEWS for one in readers)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


_WITH_SUM = ("add_layer_norm", "add_rms_norm")
_PRODUCTS = (aten.linear.default, aten.addmm.default, aten.mm.default, aten.matmul.default, aten.bmm.default)
_VIEWS = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
_GATED = (aten.silu.default, aten.gelu.default)
_READ: dict[Any, Callable[[fx.Node], Site | str | None]] = {
    aten.layer_norm.default: _layer_norm,
    aten.rms_norm.default: _rms_norm,
    aten.mul.Tensor: _product,
    aten.gelu.default: _gelu,
    aten.softmax.int: _softmax("softmax"),
    aten.log_softmax.int: _softmax("log_softmax"),
}
