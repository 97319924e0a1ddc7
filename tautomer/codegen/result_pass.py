"""The pass that writes the results of each element: four vectors at a time, then one, then what is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tautomer.codegen.cpp import Writer, named
from tautomer.codegen.expression import Node
from tautomer.codegen.schedule import inputs_of
from tautomer.codegen.trace import Program

_UNROLLED = 4
Reads = Mapping[str, list[str]]
Totals = tuple[str, ...]


def result_pass(
    write: Writer, program: Program, kept: Node | None, stream: bool, ahead: Sequence[str] = ()
) -> list[str]:
    """The statements of the pass.

    Args:
        write: writes the expressions.
        program: what is stored, for one row or for all elements from `first` to `last`.
        kept: a value that an earlier pass stored in the place of the result, or None.
        stream: whether to store past the caches; totals are read again and are not.
        ahead: the statements that ask for what a later row needs.
    """
    stored = zip(program.names, program.results, strict=True)
    results = {name: node for name, node in stored if name not in program.per_row}
    totals = program.totals
    reads = {name: inputs_of([node], kept) for name, node in results.items()}
    names = list(dict.fromkeys(name for each in reads.values() for name in each))
    parts = write.by_segments(names)
    begin, end = ("start", "end") if parts else ("0", "columns") if program.rows else ("first", "last")
    loop = [
        f"int64_t i = {begin};",
        *(_until_aligned(write, reads, totals, end) if stream else []),
        f"for (; i + 4 * LANES <= {end}; i += 4 * LANES) {{",
        *(f"  {line}" for line in (*ahead, *_steps(write, reads, totals, stream, _UNROLLED))),
        "}",
        f"for (; i + LANES <= {end}; i += LANES) {{",
        *(f"  {line}" for line in _steps(write, reads, totals, stream, 1)),
        "}",
        f"if (i < {end}) {{",
        *(f"  {line}" for line in _part(write, reads, totals, f"{end} - i")),
        "}",
    ]
    functions = [_function(write, name, node, reads[name], kept) for name, node in results.items()]
    return [
        *(line for function in functions for line in function),
        *(write.over_segments(names, loop) if parts else loop),
    ]


def _function(write: Writer, name: str, node: Node, reads: list[str], kept: Node | None) -> Iterator[str]:
    """One result of a vector of elements; what two of them have in common, the compiler computes once."""
    inputs = [f"V {named(kept) if kept is not None and read == 'y' else read}" for read in reads]
    yield f"const auto {_result(name)} = [&]({', '.join(inputs)}) INLINE_LAMBDA -> V {{"
    yield from (f"  {line}" for line in write.elements([node], kept))
    yield f"  return {f'b{node.index}' if node.uniform else named(node)};"
    yield "};"


def _result(name: str) -> str:
    return "result" if name == "y" else f"result_{name}"


def _variable(name: str, number: int) -> str:
    return f"r{number}" if name == "y" else f"{name}{number}"


def _streamed(name: str) -> str:
    return "streamed" if name == "y" else f"streamed_{name}"


def _steps(write: Writer, reads: Reads, totals: Totals, stream: bool, count: int) -> list[str]:
    """Whole vectors. All are computed before one is stored: a store could change what is loaded after it."""
    computed, stored = [], []
    for number in range(count):
        at = f" + {number} * LANES" if number else ""
        for name, names in reads.items():
            loads = ", ".join(write.loaded(read, at) for read in names)
            computed.append(f"const V {_variable(name, number)} = {_result(name)}({loads});")
            put, value = "store(", _variable(name, number)
            if name in totals:
                value = f"load({name}_row + i{at}) + {value}"
            elif stream:
                put = f"put({_streamed(name)}, "
            stored.append(f"{put}{name}_row + i{at}, {value});")
    return computed + stored


def _part(write: Writer, reads: Reads, totals: Totals, count: str) -> list[str]:
    """What is not a whole vector."""
    computed, stored = [], []
    for name, names in reads.items():
        loads = ", ".join(write.loaded_part(read, count) for read in names)
        computed.append(f"const V {_variable(name, 0)} = {_result(name)}({loads});")
        before = f"load_part({name}_row + i, {count}) + " if name in totals else ""
        stored.append(f"store_part({name}_row + i, {before}{_variable(name, 0)}, {count});")
    return computed + stored


def _until_aligned(write: Writer, reads: Reads, totals: Totals, end: str) -> list[str]:
    """The elements before the first to which a whole vector can be streamed; y decides for all results."""
    return [
        "const int64_t before = before_aligned(y_row + i);",
        "const bool streamed = before >= 0;",
        f"const int64_t head = before < {end} - i ? before : {end} - i;",
        "if (head > 0) {",
        *(f"  {line}" for line in _part(write, reads, totals, "head")),
        "  i += head;",
        "}",
        *(
            f"const bool {_streamed(name)} = streamed && before_aligned({name}_row + i) == 0;"
            for name in reads
            if name != "y" and name not in totals
        ),
    ]
