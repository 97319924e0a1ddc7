"""Programs over rows in Triton, each row by PARTS programs of the grid at once: for long rows.

A program keeps BLOCK elements of a row in registers, so that each is read once however long the row is; what
the programs of a row have reduced they exchange, see `exchange`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.codegen.expression import Node, reachable
from tautomer.codegen.schedule import schedule
from tautomer.codegen.trace import Program
from tautomer.codegen.triton.exchange import combined, exchanged, online, steps
from tautomer.codegen.triton.expression import TritonWriter
from tautomer.codegen.triton.tile import (
    PER_CALL,
    PER_COLUMN,
    PER_ELEMENT,
    PER_ROW,
    TILE,
    given,
    over_columns,
    reads,
    stores,
    within,
)


def parts_of_rows(program: Program) -> tuple[list[str], set[str]]:
    """The statements of the kernel, and the functions they call."""
    nodes = reachable(program.results)
    writer = TritonWriter()
    plain = schedule(program).plain
    lines = [
        "number = tl.program_id(0) // PARTS",
        "part = tl.program_id(0) % PARTS",
        "row = (number + tl.arange(0, ROWS))[:, None]",
        "column = part * BLOCK + tl.arange(0, BLOCK)[None, :]",
        *TILE,
        "inside = in_rows & (column < columns)",
        *given(nodes, writer),
        *reads(program, nodes, writer, PER_CALL + PER_COLUMN + PER_ELEMENT + PER_ROW),
    ]
    slot = 0
    for index, step in enumerate(steps(program)):
        lines += _reduced(step, plain, writer)
        lines += exchanged(step, slot, index)
        lines += combined(step, plain, writer)
        slot += len(step)
        for node in step:
            writer.name(node, f"r{node.index}")
    lines += writer.statements(program.results)
    return [*lines, *stores(program, writer, program.names)], writer.helpers


def _reduced(step: Sequence[Node], plain: frozenset[Node], writer: TritonWriter) -> list[str]:
    """Of the elements of this program."""
    if online(step):
        largest, total = step
        value = largest.args[0]
        m = f"r{largest.index}"
        return [
            *writer.statements([value]),
            f"value = {within(largest, writer.value(value))}",
            f"{m} = tl.max(value, 1)[:, None]",
            f'shift = tl.where({m} == float("-inf"), 0.0, {m})',
            f"r{total.index} = tl.sum(tl.exp(value - shift), 1)[:, None]",
        ]
    lines = writer.statements([node.args[0] for node in step])
    for node in step:
        values = within(node, writer.value(node.args[0]))
        lines.append(f"r{node.index} = {over_columns(node, values, node in plain, writer)}")
    return lines
