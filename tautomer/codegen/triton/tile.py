"""How a tile of ROWS rows and BLOCK columns is read, reduced and written.

The lines know `row`, `in_rows`, `column`, `inside` and `start`, the element at which each row begins. What is
not inside is read as 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.codegen.expression import Node
from tautomer.codegen.trace import Program
from tautomer.codegen.triton.expression import TritonWriter

TILE = ("in_rows = row < rows", "start = row.to(tl.int64) * columns")
_PLACES = {
    "full": "{0}_ptr + start + column, mask=inside, other=0.0",
    "row": "{0}_ptr + column, mask=column < columns, other=0.0",
    "block": "{0}_ptr + (row // {0}_period % {0}_count).to(tl.int64) * columns + column, "
    "mask=inside, other=0.0",
    "column": "{0}_ptr + row // {0}_period % {0}_count, mask=in_rows, other=0.0",
    "segment": "{0}_ptr + row % groups * segments + column // (columns // segments), mask=inside, other=0.0",
    "number": "{0}_ptr",
}
PER_CALL, PER_ROW = ("number",), ("column",)
PER_COLUMN, PER_ELEMENT = ("row",), ("full", "block", "segment")


def reads(
    program: Program, nodes: list[Node], writer: TritonWriter, kinds: tuple[str, ...], again: str = ""
) -> list[str]:
    """Statements that read the tensors of these kinds that are among the nodes.

    Args:
        program: what is computed.
        nodes: values of it.
        writer: gets to know what was read.
        kinds: how the tensors go with x.
        again: what the last cache is told of tensors of the shape of x: "evict_last", "evict_first" or "".
    """
    kind_of = {"x": "full", **dict(zip(program.operands, program.kinds, strict=True))}
    lines = []
    for node in nodes:
        name = node.name or "x"
        if node.op in ("x", "operand", "column", "single") and kind_of[name] in kinds:
            place = _PLACES[kind_of[name]].format(name)
            place += f', eviction_policy="{again}"' if again and kind_of[name] == "full" else ""
            lines.append(f"{name} = tl.load({place}).to(tl.float32)")
            writer.name(node, name)
    return lines


def given(nodes: list[Node], writer: TritonWriter) -> list[str]:
    """Statements for the parameters and the length of a row.

    Compilers of torch pass a number in double precision, and all that is computed from it would be so.
    """
    lines = []
    for node in nodes:
        if node.op == "parameter":
            writer.name(node, node.name)
            lines.append(f"{node.name} = tl.cast({node.name}, tl.float32)")
        elif node.op == "count":
            writer.name(node, "count")
            lines.append("count = columns * 1.0")
    return lines


def within(node: Node, text: str) -> str:
    """A reduced value with what is not inside left out."""
    if node.op == "max":
        return f'tl.where(inside, {text}, float("-inf"))'
    return text if zero_outside(node.args[0]) else f"tl.where(inside, {text}, 0.0)"


def over_columns(node: Node, text: str, plain: bool, writer: TritonWriter) -> str:
    """The reduction of a tile's rows, as a tile of one column.

    Args:
        node: the reduction.
        text: the values, with 0 or -inf where nothing counts.
        plain: whether a maximum need not look for NaN.
        writer: remembers what is called.
    """
    if node.op == "sum":
        return f"tl.sum({text}, 1)[:, None]"
    if plain:
        return f"tl.max({text}, 1)[:, None]"
    writer.helpers.add("maximum")
    return f"tl.reduce({text}, 1, maximum)[:, None]"


def zero_outside(node: Node) -> bool:
    """Whether a value is 0, by its form, where every tensor is."""
    if node.op in ("x", "operand"):
        return True
    if node.op in ("add", "sub"):
        return all(map(zero_outside, node.args))
    if node.op == "mul":
        a, b = node.args
        return all(zero_outside(one) or one.op == "number" for one in (a, b))
    return node.op in ("neg", "abs") and zero_outside(node.args[0])


def stores(
    program: Program, writer: TritonWriter, names: Sequence[str], *, streamed: bool = False
) -> list[str]:
    """Statements that write results that are not added up over the rows.

    Args:
        program: what is computed.
        writer: knows the results.
        names: of the results.
        streamed: whether the last cache is to keep other things than what is written.
    """
    results = dict(zip(program.names, program.results, strict=True))
    past = ', cache_modifier=".cs"' if streamed else ""
    return [
        f"tl.store({name}_ptr + row, {writer.value(results[name])}, mask=in_rows)"
        if name in program.per_row
        else f"tl.store({name}_ptr + start + column, {writer.value(results[name])}, mask=inside{past})"
        for name in names
        if name not in program.totals
    ]
