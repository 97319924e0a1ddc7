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
from tautomer.codegen.storage import fence, streams
from tautomer.codegen.trace import Program
from tautomer.codegen.vector_math import vector_math
from tautomer.codegen.vector_type import reductions


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
    lines = write.inputs_per_row(nodes)
    for number, step in enumerate(plan.passes):
        lines += write.uniforms([node.args[0] for node in step])
        lines += reduction_pass(write, plan, number, kept if number == len(plan.passes) - 1 else None)
    lines += write.uniforms(list(program.results), kept=kept)
    if program.folded:
        lines += [f"store_part({name}_row, b{node.index}, 1);" for name, node in stored.items()]
    else:
        lines += result_pass(write, program, kept, stream)
    helpers = (
        vector_math(write.functions, isa),
        scalar_helpers(write.helpers),
        reductions({accumulator(node, plan) for step in plan.passes for node in step}, isa),
        streams(dtype, isa) if stream else "",
    )
    at_end = fence(isa) if stream else ()
    return Loops(tuple(lines), tuple(once), at_end, tuple(text for text in helpers if text))
