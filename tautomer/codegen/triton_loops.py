"""Programs over rows in Triton, block by block: for rows that do not fit into registers.

Each pass of the schedule is a loop over the row. Sums and maxima are taken lane by lane, and over the lanes
once at the end of the pass. After the first pass a row lies in the last cache, or most of it does: so a
program of the grid takes many warps and one row, that few rows are under way.

The largest element and the sum of exponentials relative to it need one pass, not two:

    m' = max(m, v),   s' = s e^(m - m') + e^(v - m')      =>      s = sum e^(v - max v)
"""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.codegen.expression import Node, from_largest, reachable
from tautomer.codegen.schedule import elements, schedule
from tautomer.codegen.trace import Program
from tautomer.codegen.triton_expression import TritonWriter
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

_LANES = "tl.zeros([ROWS, {0}], tl.float32)"
_LOWEST = 'tl.full([ROWS, {0}], float("-inf"), tl.float32)'


def looped_rows(program: Program) -> tuple[list[str], set[str]]:
    """The statements of the kernel, and the functions they call.

    Args:
        program: without results that are added up over the rows.
    """
    nodes = reachable(program.results)
    found = schedule(program)
    writer = TritonWriter()
    lines = ["row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]", *TILE, *given(nodes, writer)]
    lines += reads(program, nodes, writer, PER_CALL + PER_ROW)
    passes = list(found.passes)
    while passes:
        step = passes.pop(0)
        if passes and joined(step, passes[0]):
            lines += _online(program, step[0], passes.pop(0)[0], writer)
        else:
            lines += _pass(program, step, found.plain, writer)
    if program.folded:
        return [*lines, *writer.statements(program.results), *stores(program, writer)], writer.helpers
    inner = writer.inner()
    last = [*_begin(program, program.results, inner, "evict_first"), *inner.statements(program.results)]
    return [*lines, *_loop([*last, *stores(program, inner)])], writer.helpers


def joined(first: Sequence[Node], second: Sequence[Node]) -> bool:
    """Whether two passes are a maximum, and a sum of exponentials relative to it and nothing else."""
    if len(first) != 1 or len(second) != 1 or first[0].op != "max" or second[0].op != "sum":
        return False
    term = second[0].args[0]
    return term.op == "exp" and from_largest(term.args[0]) and term.args[0].args[1] is first[0]


def _pass(program: Program, step: Sequence[Node], plain: frozenset[Node], writer: TritonWriter) -> list[str]:
    """One loop for reductions that do not wait for each other."""
    lines = [f"r{node.index} = {(_LANES if node.op == 'sum' else _LOWEST).format('BLOCK')}" for node in step]
    inner = writer.inner()
    values = [node.args[0] for node in step]
    body = [*_begin(program, values, inner), *inner.statements(values)]
    for node in step:
        value = within(node, inner.value(node.args[0]))
        if node.op == "sum":
            body.append(f"r{node.index} += {value}")
        elif node in plain:
            body.append(f"r{node.index} = tl.maximum(r{node.index}, {value})")
        else:
            writer.helpers.add("maximum")
            body.append(f"r{node.index} = maximum(r{node.index}, {value})")
    lines += _loop(body)
    for node in step:
        lines.append(f"r{node.index} = {over_columns(node, f'r{node.index}', node in plain, writer)}")
        writer.name(node, f"r{node.index}")
    return lines


def _online(program: Program, largest: Node, total: Node, writer: TritonWriter) -> list[str]:
    """One loop for a maximum and the sum of exponentials relative to it.

    A lane may take several neighbours together, so that each element needs one exponential and not two. One
    that has seen nothing but -inf is not shifted, so that it stays at a sum of 0.
    """
    m, s = f"r{largest.index}", f"r{total.index}"
    lanes = "BLOCK // TOGETHER"
    inner = writer.inner()
    values = largest.args
    body = [
        *_begin(program, values, inner),
        *inner.statements(values),
        f"value = {within(largest, inner.value(values[0]))}",
        "if TOGETHER == 1:",
        f"    larger = tl.maximum({m}, value)",
        "else:",
        f"    value = tl.reshape(value, [ROWS, {lanes}, TOGETHER])",
        f"    larger = tl.maximum({m}, tl.max(value, 2))",
        'shift = tl.where(larger == float("-inf"), 0.0, larger)',
        "if TOGETHER == 1:",
        f"    {s} = {s} * tl.exp({m} - shift) + tl.exp(value - shift)",
        "else:",
        f"    {s} = {s} * tl.exp({m} - shift) + tl.sum(tl.exp(value - shift[:, :, None]), 2)",
        f"{m} = larger",
    ]
    lines = [f"{m} = {_LOWEST.format(lanes)}", f"{s} = {_LANES.format(lanes)}", *_loop(body)]
    lines += [
        f"lanes = {m}",
        f"{m} = tl.max(lanes, 1)[:, None]",
        f'shift = tl.where({m} == float("-inf"), 0.0, {m})',
        f"{s} = tl.sum({s} * tl.exp(lanes - shift), 1)[:, None]",
    ]
    writer.name(largest, m)
    writer.name(total, s)
    return lines


def _begin(
    program: Program, roots: Sequence[Node], writer: TritonWriter, again: str = "evict_last"
) -> list[str]:
    """Statements that read what a pass needs of a block, after the values per row that it needs."""
    nodes = elements(list(roots))
    return [
        "column = begin + tl.arange(0, BLOCK)[None, :]",
        "inside = in_rows & (column < columns)",
        *reads(program, nodes, writer, PER_COLUMN + PER_ELEMENT, again),
    ]


def _loop(body: Sequence[str]) -> list[str]:
    return ["for begin in tl.range(0, columns, BLOCK, num_stages=STAGES):", *(f"    {line}" for line in body)]
