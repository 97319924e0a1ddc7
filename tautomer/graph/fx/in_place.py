"""Writes to tensors that nobody else sees, as new values.

    x = f(..); x.add_(y); g(x)      ->      x = f(..); z = x + y; g(z)

Condition: at the write, x is the result of an operator that computes it afresh, no other name of its storage
is there, and the new value has the type, shape and strides that x has. The graph does not switch gradients
off, which decides what a write records. A write to anything else stays, and hides what it touches.
"""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING, Any

from networkx.utils import UnionFind

from tautomer.graph.fx.storage import annotated, share_storage, tensors_of
from tautomer.graph.fx.table import reading_of

if TYPE_CHECKING:
    import torch


def without_local_writes(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The module, or a copy of it in which local writes are values; nodes keep their names and order."""
    import torch

    if not any(_functional(node) for node in module.graph.nodes):
        return module
    if any(getattr(node.target, "__name__", "") == "_set_grad_enabled" for node in module.graph.nodes):
        return module
    graph = torch.fx.Graph()
    copied: dict[Any, Any] = {}
    output = graph.graph_copy(module.graph, copied)
    last = next(iter(reversed(module.graph.nodes)))
    made = graph.output(output)
    made.meta = dict(last.meta)
    graph._codegen = module.graph._codegen
    if not _replace(graph):
        return module
    new = torch.fx.GraphModule(module, graph, class_name=type(module).__name__)
    new.meta.update(module.meta)
    new.training = module.training
    return new


def _replace(graph: Any) -> bool:
    """Whether anything was replaced."""
    names = UnionFind()
    sizes: dict[Any, int] = {}
    storages: dict[int, Any] = {}
    position = {node: index for index, node in enumerate(graph.nodes)}
    done = False
    for node in graph.nodes:
        target = _functional(node)
        x = node.args[0] if target is not None else None
        if x is not None and x.op == "call_function" and sizes[names[x]] == 1 and _agrees(node, target):
            node.target = target
            for user in list(x.users):
                if position[user] > position[node]:
                    user.replace_input_with(x, node)
            done = True
            sizes[names[node]] = 1
            for tensor in tensors_of(node.meta["val"]):
                storages[tensor.untyped_storage()._cdata] = node
            continue
        before = [] if _is_part(node) else [names[held] for held in _aliased(node)]
        names[node]
        for held in before:
            names.union(node, held)
        for tensor in () if _has_parts(node) else tensors_of(node.meta.get("val")):
            share_storage(names, storages, tensor, node)
        sizes[names[node]] = 1 + max((sizes.get(held, 1) for held in before), default=0)
    return done


def _aliased(node: Any) -> list[Any]:
    """The operands whose storage the result may have."""
    import torch

    if isinstance(node.target, torch._ops.OpOverload):
        return [held for held, _, aliased in annotated(node) if aliased]
    return list(node.all_input_nodes)


def _has_parts(node: Any) -> bool:
    """Whether a node gives several results that it computes afresh, each known by its own name only."""
    import torch

    if not isinstance(node.target, torch._ops.OpOverload) or not isinstance(node.meta.get("val"), tuple):
        return False
    fresh = not any(aliased for _, _, aliased in annotated(node))
    return fresh and all(user.target is getitem for user in node.users)


def _is_part(node: Any) -> bool:
    """Whether a node names one of these results."""
    return node.target is getitem and _has_parts(node.args[0])


def _functional(node: Any) -> Any:
    """The operator that gives what this one writes, or None where it writes nothing that is known."""
    import torch

    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return None
    name = target._schema.name.removeprefix("aten::")
    if not target._schema.is_mutable or not name.endswith("_") or not isinstance(node.args[0], torch.fx.Node):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    found = getattr(packet, target._overloadname, None)
    return found if found is not None and reading_of(found) is not None else None


def _agrees(node: Any, target: Any) -> bool:
    """Whether the new value is laid out as the tensor that is written to."""
    import torch

    x = node.args[0].meta.get("val")
    if not isinstance(x, torch.Tensor) or not hasattr(x, "fake_mode"):
        return False
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda held: held.meta["val"])
    with x.fake_mode, torch.no_grad():
        new = target(*args, **kwargs)
    return bool(new.dtype == x.dtype and new.shape == x.shape and new.stride() == x.stride())
