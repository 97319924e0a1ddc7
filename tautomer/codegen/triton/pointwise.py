"""Pointwise programs in Triton: a program of the grid computes BLOCK neighbouring elements."""

from __future__ import annotations

from tautomer.codegen.expression import reachable
from tautomer.codegen.trace import Program
from tautomer.codegen.triton.expression import TritonWriter
from tautomer.codegen.triton.tile import given


def pointwise(program: Program) -> tuple[list[str], set[str]]:
    """The statements of the kernel, and the functions they call.

    Args:
        program: one without rows; its operands are of the shape of x, or numbers.
    """
    nodes = reachable(program.results)
    lines = [
        "first = tl.program_id(0).to(tl.int64) * BLOCK",
        "element = tl.arange(0, BLOCK)",
        "inside = element < elements - first",
    ]
    writer = TritonWriter()
    lines += given(nodes, writer)
    for node in nodes:
        if node.op in ("x", "operand"):
            name = node.name or "x"
            load = f"tl.load({name}_ptr + first + element, mask=inside, other=0.0)"
            lines.append(f"{name} = {load}.to(tl.float32)")
        elif node.op == "single":
            lines.append(f"{node.name} = tl.load({node.name}_ptr).to(tl.float32)")
        if node.op in ("x", "operand", "single"):
            writer.name(node, node.name or "x")
    lines += writer.statements(program.results)
    lines += [
        f"tl.store({name}_ptr + first + element, {writer.value(node)}, mask=inside)"
        for name, node in zip(program.names, program.results, strict=True)
    ]
    return lines, writer.helpers
