"""Programs over rows in Triton, each row by PARTS programs of the grid at once: for long rows.

A program keeps BLOCK elements of a row in registers, so that each is read once however long the row is. What
the programs of a row have reduced they write to `partial_ptr`, count themselves in `counter_ptr`, and wait
until the count is full. A device begins programs in their order, so those of a row run at the same time, and
none waits for one that cannot begin: this holds for NVIDIA's, as long as PARTS programs fit on one.

    partial_ptr   float32 [reductions, rows, PARTS]
    counter_ptr   int32 [steps, rows], zeros before the call

The largest element and the sum of exponentials relative to it are exchanged in one step:

    m = max m_p,   s = sum s_p e^(m_p - m)
"""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.codegen.expression import Node, reachable
from tautomer.codegen.schedule import schedule
from tautomer.codegen.trace import Program
from tautomer.codegen.triton_expression import TritonWriter
from tautomer.codegen.triton_loops import joined
from tautomer.codegen.triton_tile import (
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


def steps(program: Program) -> list[tuple[Node, ...]]:
    """The reductions that are exchanged together, step by step."""
    passes, found = list(schedule(program).passes), []
    while passes:
        step = passes.pop(0)
        found.append(step + passes.pop(0) if passes and joined(step, passes[0]) else step)
    return found


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
        lines += _exchanged(step, slot, index)
        lines += _combined(step, plain, writer)
        slot += len(step)
        for node in step:
            writer.name(node, f"r{node.index}")
    lines += writer.statements(program.results)
    return [*lines, *stores(program, writer)], writer.helpers


def _reduced(step: Sequence[Node], plain: frozenset[Node], writer: TritonWriter) -> list[str]:
    """Of the elements of this program."""
    if _online(step):
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


def _exchanged(step: Sequence[Node], slot: int, index: int) -> list[str]:
    """Written, counted, waited for and read, as a tile of PARTS columns."""
    counter = f"counter_ptr + {index} * rows + number" if index else "counter_ptr + number"
    places = [f"partial_ptr + ({slot + k} * rows + row) * PARTS" for k in range(len(step))]
    lines = [f"tl.store({place} + part, r{node.index})" for node, place in zip(step, places, strict=True)]
    lines += [
        "tl.debug_barrier()",
        f'tl.atomic_add({counter}, 1, sem="release")',
        "arrived = 0",
        "while arrived < PARTS:",
        f'    arrived = tl.atomic_add({counter}, 0, sem="acquire")',
        "tl.debug_barrier()",
    ]
    for node, place in zip(step, places, strict=True):
        read = f'tl.load({place} + tl.arange(0, PARTS)[None, :], cache_modifier=".cg")'
        lines.append(f"r{node.index} = {read}")
    return lines


def _combined(step: Sequence[Node], plain: frozenset[Node], writer: TritonWriter) -> list[str]:
    """Over the parts."""
    if _online(step):
        m, s = (f"r{node.index}" for node in step)
        return [
            f"parts = {m}",
            f"{m} = tl.max(parts, 1)[:, None]",
            f'shift = tl.where({m} == float("-inf"), 0.0, {m})',
            f"{s} = tl.sum({s} * tl.exp(parts - shift), 1)[:, None]",
        ]
    return [f"r{n.index} = {over_columns(n, f'r{n.index}', n in plain, writer)}" for n in step]


def _online(step: Sequence[Node]) -> bool:
    return len(step) == 2 and joined(step[:1], step[1:])
