"""Programs over rows in Triton, block by block: for rows that do not fit into registers.

Each pass of the schedule is a loop over the row. Sums and maxima are taken lane by lane, and over the lanes
once at the end of the pass. After the first pass a row lies in the last cache, or most of it does: so a
program of the grid takes many warps and one row, that few rows are under way.

The largest element and the sum of exponentials relative to it need one pass, not two:

    m' = max(m, v),   s' = s e^(m - m') + e^(v - m')      =>      s = sum e^(v - max v)

What a softmax of bfloat16 costs on an H100 follows from how many bytes of an element go to memory: 4 where
the second pass finds the row in the cache, 6 where it does not. A program of 1024 threads takes 49 registers
of each, and there is one on each of 132 multiprocessors; with 8 neighbours together it takes 31, and there
are two, of which one reads while the other waits for its sum. So 132 rows are under way, 35 MB at 128k
columns and 69 at 256k, or twice as many, 35 MB at 64k; the cache has 50 MB in two halves, and holds what is
written, too. Three ways make more of it:

    TURNS   every other pass goes from the end of the row to its beginning. A cache that puts out what was not
            used for longest holds the end of the row then; going forward, each block is put out just before
            it is read, and nothing is found as soon as not everything fits. Of the rows under way only what
            is yet to be read again has to be held, on average half of them.
    .cs     what is written, and what is read for the last time, leaves the cache first.
    shared  PARTS programs take a row, each a stretch of it, and exchange what they reduced after each pass.
            Fewer rows are under way: 256k columns by 4 programs are to the cache as 64k by one. None waits
            long where there are two on a multiprocessor.
"""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.codegen.expression import Node, reachable
from tautomer.codegen.schedule import elements, schedule
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

_LANES = "tl.zeros([ROWS, {0}], tl.float32)"
_LOWEST = 'tl.full([ROWS, {0}], float("-inf"), tl.float32)'
_ROW = ("row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]", "low = 0", "high = columns")
_STRETCH = (
    "number = tl.program_id(0) // PARTS",
    "part = tl.program_id(0) % PARTS",
    "row = (number + tl.arange(0, ROWS))[:, None]",
    "share = tl.cdiv(tl.cdiv(columns, BLOCK), PARTS) * BLOCK",
    "low = tl.minimum(part * share, columns)",
    "high = tl.minimum(low + share, columns)",
)


def looped_rows(program: Program, *, shared: bool = False) -> tuple[list[str], set[str]]:
    """The statements of the kernel, and the functions they call.

    Args:
        program: without results that are added up over the rows.
        shared: whether PARTS programs of the grid share a row.
    """
    nodes = reachable(program.results)
    plain = schedule(program).plain
    writer = TritonWriter()
    lines = [*(_STRETCH if shared else _ROW), *TILE, *given(nodes, writer)]
    lines += reads(program, nodes, writer, PER_CALL + PER_ROW)
    slot = passes = 0
    for index, step in enumerate(steps(program)):
        if online(step):
            lines += _online(program, step[0], step[1], writer, passes)
        else:
            lines += _pass(program, step, plain, writer, passes)
        if shared:
            lines += exchanged(step, slot, index) + combined(step, plain, writer)
        slot, passes = slot + len(step), passes + 1
    results = dict(zip(program.names, program.results, strict=True))
    lines += writer.statements([results[name] for name in program.per_row])
    lines += stores(program, writer, program.per_row)
    if program.folded:
        return lines, writer.helpers
    names = [name for name in program.names if name not in program.per_row]
    inner, whole = writer.inner(), [results[name] for name in names]
    last = [*_begin(program, whole, inner, "evict_first"), *inner.statements(whole)]
    return [*lines, *_loop([*last, *stores(program, inner, names, streamed=True)], passes)], writer.helpers


def _pass(
    program: Program, step: Sequence[Node], plain: frozenset[Node], writer: TritonWriter, number: int
) -> list[str]:
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
    lines += _loop(body, number)
    for node in step:
        lines.append(f"r{node.index} = {over_columns(node, f'r{node.index}', node in plain, writer)}")
        writer.name(node, f"r{node.index}")
    return lines


def _online(program: Program, largest: Node, total: Node, writer: TritonWriter, number: int) -> list[str]:
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
    lines = [f"{m} = {_LOWEST.format(lanes)}", f"{s} = {_LANES.format(lanes)}", *_loop(body, number)]
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


def _loop(body: Sequence[str], number: int) -> list[str]:
    """The loop of a pass, by its number."""
    lines = ["for begin in tl.range(low, high, BLOCK, num_stages=STAGES):"]
    if number % 2:
        lines += [
            "    if TURNS:",
            "        begin = low + (tl.cdiv(high - low, BLOCK) - 1) * BLOCK - (begin - low)",
        ]
    return [*lines, *(f"    {line}" for line in body)]
