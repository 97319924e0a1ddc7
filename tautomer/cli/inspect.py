"""Lists the operations of a model as what they are, however they are spelled."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tautomer.cli.options import add_constants, add_json, add_model, add_operations
from tautomer.cli.output import Console, one_line

HELP = "list the operations that a model computes"


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
    groups = Counter((operation.op, _attributes(operation.attributes)) for operation in operations)
    rows = sorted((op, count, attributes) for (op, attributes), count in groups.items())
    console.table(("operation", "count", "attributes"), rows)
    if console.verbose:
        console.result()
        for operation in operations:
            inputs = ", ".join(operation.inputs)
            nodes = ", ".join(operation.nodes)
            console.result(one_line(f"{operation.op}({inputs}) -> {operation.output}  [{nodes}]"))
    return 0


def _attributes(attributes: Mapping[str, Any]) -> str:
    """`axis=-1, epsilon=1e-05`."""
    return ", ".join(f"{name}={_short(value)}" for name, value in sorted(attributes.items()))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
