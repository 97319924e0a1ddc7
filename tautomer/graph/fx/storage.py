"""Which FX values share storage with something that the graph writes to.

The order of a write and a read is no edge of the graph, so a value that is written to, or a view of it, must
not be read anywhere else than where it is. Told by the alias annotations of the operators' schemas, and by
the storages of the values themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from networkx.utils import UnionFind

# Composite operators that compute their result afresh on every path. Others, such as dropout outside of
# training or type_as, may give back what they were given, whatever their schema says.
FRESH = frozenset(
    {
        *("aten::linear", "aten::matmul", "aten::layer_norm", "aten::rms_norm", "aten::group_norm"),
        *("aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::embedding", "aten::softmax.int"),
        *("aten::log_softmax.int", "aten::scaled_dot_product_attention", "aten::where.ScalarOther"),
        *("aten::where.ScalarSelf", "aten::where.Scalar", "aten::square", "aten::instance_norm"),
        *("aten::batch_norm", "aten::conv1d.padding", "aten::conv2d.padding", "aten::silu", "aten::gelu"),
        *("aten::cross_entropy_loss", "aten::__and__.Tensor", "aten::__or__.Tensor", "aten::size.int"),
        *("aten::softplus", "aten::log_sigmoid", "aten::selu", "aten::relu6", "aten::pad", "aten::tile"),
    }
)


def written_to(graph: Any, values: Sequence[Any] = ()) -> set[Any]:
    """The FX nodes whose storage the graph writes to, under whatever name.

    Args:
        graph: an FX graph.
        values: what its placeholders are, where that is known; two of them may be one storage.
    """
    import torch

    shared = UnionFind()
    written: list[Any] = []
    storages: dict[int, Any] = {}
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    given = dict(zip(placeholders, values, strict=False))
    for node in graph.nodes:
        shared[node]
        for tensor in tensors_of(given.get(node)):
            share_storage(shared, storages, tensor, node)
        for tensor in tensors_of(node.meta.get("val")):
            share_storage(shared, storages, tensor, node)
        if node.op == "call_module" or node.op == "call_method":
            written += [] if str(node.target) == "_guards_fn" else node.all_input_nodes
        elif node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            for operand, writes, aliased in annotated(node):
                if writes:
                    written.append(operand)
                if aliased:
                    shared.union(node, operand)
        elif node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem":
            shared.union(node, node.args[0])
        elif node.op == "call_function" and isinstance(node.target, torch._ops.HigherOrderOperator):
            written += node.all_input_nodes  # what its sub-graphs do is not looked at
    roots = {shared[node] for node in written}
    return {node for node in graph.nodes if shared[node] in roots}


def share_storage(shared: UnionFind, storages: dict[int, Any], tensor: Any, node: Any) -> None:
    """Notes that a node has the storage of a tensor.

    Args:
        shared: nodes of one storage.
        storages: the first node of each storage, by its identity.
        tensor: what the node gives.
        node: the node.
    """
    try:
        key = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return  # sparse and other tensors without a storage
    shared.union(storages.setdefault(key, node), node)


def tensors_of(value: Any) -> Iterator[Any]:
    """The tensors in a node's value."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_of(each)


def annotated(node: Any) -> Iterator[tuple[Any, bool, bool]]:
    """The operands of an operator: whether it writes to them, and whether its result may be one of them."""
    import torch

    target, schema = node.target, node.target._schema
    name = target._schema.name + (f".{target._schema.overload_name}" if target._schema.overload_name else "")
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd")
    opaque = composite and name not in FRESH
    annotated = any(result.alias_info is not None for result in schema.returns)
    for index, argument in enumerate(schema.arguments):
        if argument.kwarg_only or index >= len(node.args):
            held = node.kwargs.get(argument.name)
        else:
            held = node.args[index]
        info = argument.alias_info
        for operand in _nodes(held):
            writes = info is not None and info.is_write
            yield operand, writes, (info is not None and annotated) or (opaque and not annotated)


def _nodes(held: Any) -> Iterator[Any]:
    import torch

    if isinstance(held, torch.fx.Node):
        yield held
    elif isinstance(held, (list, tuple)):
        for each in held:
            yield from _nodes(each)
