"""The nodes of one graph, producers first."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def in_order(graph: ir.Graph) -> list[ir.Node]:
    """Lists the nodes so that each comes after those it reads; in stored order where that already holds.

    Nodes of a cycle are listed once, in some order.
    """
    seen: set[ir.Node] = set()
    ordered: list[ir.Node] = []
    for node in graph:
        if node in seen:
            continue
        seen.add(node)
        stack = [(node, _producers(graph, node))]
        while stack:
            current, waiting = stack[-1]
            producer = next((p for p in waiting if p not in seen), None)
            if producer is None:
                ordered.append(current)
                stack.pop()
            else:
                seen.add(producer)
                stack.append((producer, _producers(graph, producer)))
    return ordered


def _producers(graph: ir.Graph, node: ir.Node) -> Iterator[ir.Node]:
    for value in node.inputs:
        producer = None if value is None else value.producer()
        if producer is not None and producer.graph is graph:
            yield producer
