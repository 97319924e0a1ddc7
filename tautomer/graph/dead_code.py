"""Removing what a rewrite left behind: nodes and initializers that nobody reads any more."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir


def remove_dead(nodes: Iterable[ir.Node]) -> int:
    """Removes those of the nodes that are dead, and what only they read, however far back.

    Only what becomes dead here is removed: a model's own dead code is its author's business.

    Args:
        nodes: where to begin, for instance the nodes that a new operation stands for.

    Returns:
        The number of nodes removed.
    """
    stack = list(nodes)
    removed = 0
    while stack:
        node = stack.pop()
        graph = node.graph
        if graph is None or any(value.uses() or value.is_graph_output() for value in node.outputs):
            continue
        operands = [value for value in node.inputs if value is not None]
        graph.remove(node, safe=True)
        removed += 1
        for value in operands:
            producer = value.producer()
            if producer is not None:
                stack.append(producer)
            elif value.is_initializer() and not value.uses() and not value.is_graph_input():
                _forget(value)
    return removed


def _forget(value: ir.Value) -> None:
    graph, name = value.graph, value.name
    if isinstance(graph, ir.Graph) and not value.is_graph_output() and name in graph.initializers:
        del graph.initializers[str(name)]
