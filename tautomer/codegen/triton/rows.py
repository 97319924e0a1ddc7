"""Programs over rows in Triton, a whole row at a time: each element is read once and stays in registers.

A program of the grid computes ROWS rows of up to BLOCK elements, as one tile. Where results are added up over
the rows, it goes on to further rows, which are read ahead, and keeps the sums of all of them: one row of
partial sums per program.
"""

from __future__ import annotations

from tautomer.codegen.expression import REDUCTIONS, reachable
from tautomer.codegen.schedule import schedule
from tautomer.codegen.trace import Program
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


def whole_rows(program: Program) -> tuple[list[str], set[str]]:
    """The statements of the kernel, and the functions they call."""
    nodes = reachable(program.results)
    writer = TritonWriter()
    plain = schedule(program).plain
    lines = ["column = tl.arange(0, BLOCK)[None, :]", *given(nodes, writer)]
    # what only the results need is read late: until then registers are for the row
    early = nodes if program.totals else reachable(node for node in nodes if node.op in REDUCTIONS)
    late = [node for node in nodes if node not in early]
    lines += reads(program, nodes, writer, PER_CALL) + reads(program, early, writer, PER_COLUMN)
    tile = [*TILE, "inside = in_rows & (column < columns)"]
    tile += reads(program, nodes, writer, PER_ELEMENT + PER_ROW)
    for node in nodes:
        if node.op in REDUCTIONS:
            tile += writer.statements(node.args)
            values = within(node, writer.value(node.args[0]))
            tile.append(f"{_name(node.index)} = {over_columns(node, values, node in plain, writer)}")
            writer.name(node, _name(node.index))
    tile += reads(program, late, writer, PER_COLUMN)
    tile += writer.statements(program.results)
    tile += stores(program, writer, program.names)
    if not program.totals:
        row = "row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]"
        return [*lines, row, *tile], writer.helpers
    results = dict(zip(program.names, program.results, strict=True))
    tile += [f"{name} += tl.where(inside, {writer.value(results[name])}, 0.0)" for name in program.totals]
    lines += [f"{name} = tl.zeros([ROWS, BLOCK], tl.float32)" for name in program.totals]
    lines.append("tiles = tl.cdiv(rows, ROWS)")
    lines.append("for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), num_stages=STAGES):")
    lines += [f"    {line}" for line in ("row = (tile * ROWS + tl.arange(0, ROWS))[:, None]", *tile)]
    for name in program.totals:
        place = f"{name}_ptr + tl.program_id(0) * columns + column"
        lines.append(f"tl.store({place}, tl.sum({name}, 0)[None, :], mask=column < columns)")
    return lines, writer.helpers


def _name(index: int) -> str:
    return f"r{index}"
