"""The loops that follow from a definition: its passes over the row in order, with what goes between them."""

from __future__ import annotations

from tautomer.codegen.algorithms import Loops
from tautomer.codegen.cpp import Writer
from tautomer.codegen.expression import reachable
from tautomer.codegen.isa import Isa
from tautomer.codegen.numbers_per_row import scalar_helpers
from tautomer.codegen.reduction_pass import accumulator, reduction_pass
from tautomer.codegen.result_pass import result_pass
from tautomer.codegen.schedule import schedule
from tautomer.codegen.storage import AHEAD, fence, streams
from tautomer.codegen.trace import Program
from tautomer.codegen.vector_math import SHORT, vector_math
from tautomer.codegen.vector_type import reductions

# While one row is computed, memory brings what a later one needs: the next, or of short rows the one that
# begins 4 KiB on.
_ROWS_AHEAD = "const int64_t rows_ahead = 1 + 1024 / (columns + 1);"
_AHEAD = "const int64_t ahead = row + rows_ahead < last ? rows_ahead * columns * (int64_t)sizeof(S) : 0;"
# Of elements, what is read half a page on.
_ELEMENTS_AHEAD = "const int64_t ahead = 2048;"


def _asked_for(program: Program, written: bool) -> tuple[str, ...]:
    """The statements of a step that ask for what a later one needs.

    Args:
        program: what is computed.
        written: whether the results go through the caches.
    """
    read = [f"soon_read((uintptr_t)({name}_row + i) + ahead);" for name in ("x", *program.of_kind("full"))]
    whole = (name for name in program.names if name not in program.per_row)
    stored = [f"soon_written((uintptr_t)({name}_row + i) + ahead);" for name in whole]
    return (*read, *(stored if written else ()))


def by_definition(program: Program, isa: Isa, dtype: str, stream: bool) -> Loops:
    """The passes over a row that follow from the definition.

    Args:
        program: the definition, traced.
        isa: the instruction set.
        dtype: what is stored.
        stream: whether the result is stored past the caches.
    """
    plan, write = schedule(program), Writer(program.of_kind("segment"))
    # narrow types would round what is kept; a result that is streamed is not to be read again
    kept = plan.kept if dtype == "float32" and not stream else None
    stored = dict(zip(program.names, program.results, strict=True))
    roots = [*program.results, *(node.args[0] for step in plan.passes for node in step)]
    nodes = reachable(roots)
    zeros = [f"std::memset({name}_all, 0, columns * sizeof(float));" for name in program.totals]
    once = [*zeros, *write.inputs_per_call(nodes, program.parameters), *write.uniforms(roots, fixed=True)]
    lines, ahead = write.inputs_per_row(nodes), tuple[str, ...]()
    if (stream or kept) and not program.folded:
        once += [_ROWS_AHEAD] if program.rows else []
        lines.append(_AHEAD if program.rows else _ELEMENTS_AHEAD)
        ahead = _asked_for(program, written=kept is not None)
    for number, step in enumerate(plan.passes):
        lines += write.uniforms([node.args[0] for node in step])
        if number < len(plan.passes) - 1:
            lines += reduction_pass(write, plan, number, None)
        else:
            lines += reduction_pass(write, plan, number, kept, ahead if kept else ())
    lines += write.uniforms(list(program.results), kept=kept)
    lines += [f"store_part({name}_row, b{stored[name].index}, 1);" for name in program.per_row]
    if not program.folded:
        lines += result_pass(write, program, kept, stream, () if kept else ahead)
    helpers = (
        vector_math(write.functions, isa),
        scalar_helpers(write.helpers),
        reductions({accumulator(node, plan) for step in plan.passes for node in step}, isa),
        AHEAD if ahead else "",
        streams(dtype, isa) if stream else "",
    )
    at_end = fence(isa) if stream else ()
    long_chains = bool(write.functions - SHORT)
    return Loops(tuple(lines), tuple(once), at_end, tuple(text for text in helpers if text), long_chains)
