"""Lists the operations of a model as what they are, however they are spelled.

An operation that is part of another, as the Softmax of an attention, is listed, too: indented below it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tautomer.cli.options import add_constants, add_json, add_model, add_operations
from tautomer.cli.output import Console, one_line

if TYPE_CHECKING:
    from tautomer.api import Operation

HELP = "list the operations that a model computes"
EXAMPLES = ("inspect model.onnx", "inspect model.onnx --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    add_model(parser)
    add_json(parser)
    add_constants(parser)
    add_operations(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints the operations."""
    from tautomer import api

    console.progress("reading and recognising")
    operations = api.inspect(options.model, constants=options.constants)
    if options.json:
        console.json({"operations": [operation.as_json() for operation in operations]})
        return 0
    if not operations:
        console.result("no operation was recognised; `tautomer explain` says what came close")
        return 0
    groups = Counter(_paths(operations))
    rows: list[tuple[str, int, str]] = []
    for path, count in sorted(groups.items()):
        op, attributes = path[-1]
        rows.append((f"{'  ' * (len(path) - 1)}{op}", count, attributes))
    parts = sum(count for path, count in groups.items() if len(path) > 1)
    told = f"{parts} of them part of another, indented below it" if parts else ""
    console.table(("operation", "count", "attributes"), [*rows, ("total", len(operations), told)])
    if console.verbose:
        console.result()
        for operation in operations:
            inputs = ", ".join(operation.inputs)
            nodes = ", ".join(operation.nodes)
            console.result(one_line(f"{operation.op}({inputs}) -> {operation.output}  [{nodes}]"))
    return 0


def _paths(operations: Sequence[Operation]) -> list[tuple[tuple[str, str], ...]]:
    """Each operation's name and attributes, after those of the operations that it is part of.

    It is part of the smallest operation that stands for all of its nodes and for others.
    """
    holding: dict[str, list[Operation]] = {}
    for operation in operations:
        for node in operation.nodes:
            holding.setdefault(node, []).append(operation)

    def path(operation: Operation) -> tuple[tuple[str, str], ...]:
        own, nodes = (operation.op, _attributes(operation.attributes)), set(operation.nodes)
        around = [one for one in holding[operation.nodes[-1]] if nodes < set(one.nodes)]
        outer = min(around, key=lambda one: len(one.nodes), default=None)
        return (*(path(outer) if outer is not None else ()), own)

    return [path(operation) for operation in operations]


def _attributes(attributes: Mapping[str, Any]) -> str:
    """`axis=-1, epsilon=1e-05`."""
    return ", ".join(f"{name}={_short(value)}" for name, value in sorted(attributes.items()))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
