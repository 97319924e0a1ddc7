"""Which nodes of a graph run, how long values live, and how If, Loop and Scan steer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.node_order import in_order
from tautomer.graph.semantics.arrays import kind_of
from tautomer.graph.semantics.domain import Mathematics, Unsupported

Body = Callable[[Sequence[Any]], list[Any]]

_MOST_ITERATIONS = 10_000  # a body that runs more often than this is not run at all


def bodies_of(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """The graphs among the attributes of a node, by name."""
    for name, attribute in node.attributes.items():
        if not attribute.is_ref() and attribute.type == ir.AttributeType.GRAPH:
            yield name, attribute.as_graph()


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, itself or from inside its bodies."""
    for value in node.inputs:
        if value is not None:
            yield value
    for _, body in bodies_of(node):
        yield from body.outputs
        for inner in body:
            yield from reads(inner)


def needed(graph: ir.Graph, wanted: Sequence[ir.Value]) -> list[ir.Node]:
    """The nodes that the wanted values depend on, producers first; Constants are read where they are used."""
    found = set(wanted)
    nodes = []
    for node in reversed(in_order(graph)):
        if any(value in found for value in node.outputs):
            found.update(reads(node))
            if not is_constant(node):
                nodes.append(node)
    return nodes[::-1]


def last_reads(graph: ir.Graph, nodes: list[ir.Node], wanted: Sequence[ir.Value]) -> list[list[ir.Value]]:
    """For each node, the values of this graph that nobody reads after it."""
    own = set(graph.inputs)
    last: dict[ir.Value, int] = {}
    for position, node in enumerate(nodes):
        last.update(dict.fromkeys(node.outputs, position))
        last.update((value, position) for value in reads(node) if value in last or value in own)
    dead: list[list[ir.Value]] = [[] for _ in nodes]
    kept = set(wanted)
    for value, position in last.items():
        if value not in kept:
            dead[position].append(value)
    return dead


def is_constant(node: ir.Node) -> bool:
    """True for a node that only carries a tensor."""
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx")


def decided(m: Mathematics, op: str, condition: Any) -> bool:
    """The truth of a condition.

    Raises:
        Unsupported: it is not one concrete boolean.
    """
    if condition is None or m.is_value(condition) or np.size(condition) != 1:
        raise Unsupported(op, "a condition that is not one boolean")
    return bool(np.asarray(condition).reshape(()))


def loop(m: Mathematics, inputs: Sequence[Any], body: Body, outputs: int) -> tuple[Any, ...]:
    """Repeats the body on what it carries, and stacks what it gives away at each step.

    Args:
        m: the domain.
        inputs: the number of iterations or None, the first condition or None, the first carried values.
        body: takes the iteration, the condition and the carried values; gives the next condition, the next
            carried values, and what is stacked.
        outputs: how many outputs the node has.

    Raises:
        Unsupported: too many iterations, or nothing to stack.
    """
    most = None if not inputs or inputs[0] is None else int(np.asarray(inputs[0]).reshape(()))
    given = inputs[1] if len(inputs) > 1 else None
    going = given is None or decided(m, "Loop", given)
    if most is None and given is None:
        raise Unsupported("Loop", "without an end")
    carried = list(inputs[2:])
    stacked: list[list[Any]] = [[] for _ in range(outputs - len(carried))]
    step = 0
    while going and (most is None or step < most):
        if step >= _MOST_ITERATIONS:
            raise Unsupported("Loop", f"of more than {_MOST_ITERATIONS} iterations")
        results = body([np.asarray(step, np.int64), np.asarray(True), *carried])
        going = decided(m, "Loop", results[0])
        carried = results[1 : 1 + len(carried)]
        for rows, row in zip(stacked, results[1 + len(carried) :], strict=True):
            rows.append(row)
        step += 1
    return (*carried, *(stack(m, rows, 0, "Loop") for rows in stacked))


def scan(m: Mathematics, call: Call, inputs: Sequence[Any], body: Body) -> tuple[Any, ...]:
    """Runs the body along an axis of its inputs, carrying a state, and stacks its results.

    Raises:
        Unsupported: the form with batches of opset 8, or an axis without elements.
    """
    if call.version < 9:
        raise Unsupported("Scan", "of opset 8")
    count = int(call.attributes["num_scan_inputs"])
    state, scanned = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    axes = list(call.get("scan_input_axes", [0] * count))
    backward = list(call.get("scan_input_directions", [0] * count))
    lengths = {kind_of(m, x).shape(x)[axis] for x, axis in zip(scanned, axes, strict=True)}
    if len(lengths) != 1 or max(lengths) > _MOST_ITERATIONS:
        raise Unsupported("Scan", f"along axes of lengths {sorted(lengths)}")
    (length,) = lengths
    stacked: list[list[Any]] = [[] for _ in range(call.outputs - len(state))]
    for step in range(length):
        rows = [
            _row(m, x, axis, length - 1 - step if back else step)
            for x, axis, back in zip(scanned, axes, backward, strict=True)
        ]
        results = body([*state, *rows])
        state = results[: len(state)]
        for kept, row in zip(stacked, results[len(state) :], strict=True):
            kept.append(row)
    out_axes = list(call.get("scan_output_axes", [0] * len(stacked)))
    reverse = list(call.get("scan_output_directions", [0] * len(stacked)))
    joined = [
        stack(m, rows[::-1] if back else rows, axis, "Scan")
        for rows, axis, back in zip(stacked, out_axes, reverse, strict=True)
    ]
    return (*state, *joined)


def _row(m: Mathematics, x: Any, axis: int, position: int) -> Any:
    return kind_of(m, x).move(lambda a: np.take(a, position, axis), x)


def stack(m: Mathematics, rows: Sequence[Any], axis: int, op: str) -> Any:
    """Equal shapes along a new axis."""
    if not rows:
        raise Unsupported(op, "no iteration says what shape its results have")
    return kind_of(m, *rows).move(lambda *arrays: np.stack(arrays, axis), *rows)
