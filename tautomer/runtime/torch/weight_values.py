"""Parts a graph into what sees weights alone, the prologue, and the rest.

    f(weights, inputs) = rest(weights, inputs, prologue(weights))

A weight is a parameter or a buffer that is not differentiated and that the graph does not write to. Views of
weights cost nothing and stay in the rest, so that what a prologue gives has storage of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import fx

from tautomer.graph.fx.storage import written_to
from tautomer.runtime.torch.compat import FakeTensor, OpOverload, TracingContext
from tautomer.runtime.torch.prologue import Prologue

_ENTER, _EXIT = torch.amp.autocast_mode._enter_autocast, torch.amp.autocast_mode._exit_autocast


def take_weight_values(graph: fx.GraphModule, inputs: Sequence[Any]) -> tuple[Prologue, list[Any]] | None:
    """Takes the prologue out of a graph, in place.

    Args:
        graph: pre-dispatch ATen; gets one more placeholder for each value of the prologue.
        inputs: one per placeholder.

    Returns:
        The prologue, and an example input for each new placeholder; None where there is nothing to take, and
        then the graph is as it was.
    """
    nodes = graph.graph
    placeholders = nodes.find_nodes(op="placeholder")
    weights, inside = _weights_and_inside(graph, inputs)
    results = _results(inside, weights)
    if not results:
        return None
    needed = _with_ancestors(results)
    taken = [node for node in weights if node in needed]
    prologue = Prologue(_copy(graph, taken, needed, results), tuple(map(placeholders.index, taken)))
    examples = [_fake(value) for value in prologue.values(inputs)]
    last = placeholders[-1]
    for node, example in zip(results, examples, strict=True):
        with nodes.inserting_after(last):
            last = nodes.placeholder(f"of_weights_{node.name}")
        last.meta["val"] = example
        last._dynamo_source = None
        node.replace_all_uses_with(last)
    for node in reversed(inside):
        if not node.users:
            nodes.erase_node(node)
    graph.recompile()
    return prologue, examples


def weight_nodes(graph: fx.GraphModule, inputs: Sequence[Any]) -> list[fx.Node]:
    """The nodes that see weights alone, placeholders first: a prologue may compute more from them."""
    weights, inside = _weights_and_inside(graph, inputs)
    return [*weights, *inside]


def _weights_and_inside(graph: fx.GraphModule, inputs: Sequence[Any]) -> tuple[list[fx.Node], list[fx.Node]]:
    unsafe = written_to(graph.graph, inputs)
    pairs = zip(graph.graph.find_nodes(op="placeholder"), inputs, strict=True)
    weights = [node for node, value in pairs if node not in unsafe and _is_weight(node, value)]
    return weights, _seeing_only(graph.graph, weights, unsafe)


def weights_are_fixed(graph: fx.GraphModule, inputs: Sequence[Any]) -> bool:
    """Whether what is computed from parameters can be kept between calls, for all of them."""
    placeholders = graph.graph.find_nodes(op="placeholder")
    pairs = zip(placeholders, inputs, strict=True)
    return all(_is_weight(node, value) for node, value in pairs if isinstance(value, torch.nn.Parameter))


def _is_weight(node: fx.Node, value: Any) -> bool:
    if not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
        return False
    if torch.is_grad_enabled() and value.requires_grad:
        return False
    source = getattr(node, "_dynamo_source", None)
    if source is None:
        return isinstance(value, torch.nn.Parameter)
    place = source.guard_source
    # FSDP fills the storage of a parameter before every call, without a trace in its version
    owned = place.is_unspecialized_nn_module() or isinstance(value, torch.nn.Parameter)
    return owned and not place.is_fsdp_module()


def _seeing_only(graph: fx.Graph, weights: Sequence[fx.Node], unsafe: Collection[fx.Node]) -> list[fx.Node]:
    """The nodes that see a weight, and nothing but weights and constants, in the order of the graph."""
    constants: set[fx.Node] = set()
    found = dict.fromkeys(weights)
    autocast = 0
    for node in graph.nodes:
        autocast += (node.target is _ENTER) - (node.target is _EXIT)
        if autocast or node in unsafe or not _is_pure(node):
            continue
        if all(each in constants for each in node.all_input_nodes):
            constants.add(node)
        elif all(each in constants or each in found for each in node.all_input_nodes):
            found[node] = None
    return [node for node in found if node.op != "placeholder"]


def _is_pure(node: fx.Node) -> bool:
    if not isinstance(node.target, OpOverload) or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    return not _schema(node).is_mutable and torch.Tag.nondeterministic_seeded not in node.target.tags


def _results(inside: Sequence[fx.Node], weights: Sequence[fx.Node]) -> list[fx.Node]:
    """Where to cut: of the nodes that are read outside, those that are no views."""
    storages = {_storage(node) for node in weights}
    moved = dict.fromkeys(inside)
    found = []
    for node in reversed(inside):
        if all(user in moved for user in node.users):
            continue
        annotated = any(result.alias_info is not None for result in _schema(node).returns)
        if annotated or _storage(node) in storages:
            del moved[node]
        else:
            found.append(node)
    return found[::-1]


def _schema(node: fx.Node) -> torch.FunctionSchema:
    assert isinstance(node.target, OpOverload)
    return node.target._schema


def _storage(node: fx.Node) -> int:
    return int(node.meta["val"].untyped_storage()._cdata)


def _with_ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    found, open_ones = set(nodes), list(nodes)
    while open_ones:
        for each in open_ones.pop().all_input_nodes:
            if each not in found:
                found.add(each)
                open_ones.append(each)
    return found


def _copy(
    graph: fx.GraphModule, weights: Sequence[fx.Node], needed: Collection[fx.Node], results: Sequence[fx.Node]
) -> fx.GraphModule:
    copy, there = fx.Graph(), {}
    for node in graph.graph.nodes:
        if node in weights:
            there[node] = copy.placeholder(node.name)
        elif node in needed:
            there[node] = copy.node_copy(node, lambda each: there[each])
    copy.output(tuple(there[node] for node in results))
    return fx.GraphModule(graph, copy)


def _fake(value: torch.Tensor) -> torch.Tensor:
    """A stand-in whose sizes are constants: those of a real example would become symbols."""
    context = TracingContext.get()
    assert context.fake_mode is not None
    return context.fake_mode.from_tensor(value, static_shapes=True)
