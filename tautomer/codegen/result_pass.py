"""The pass that writes the result of each element: four vectors at a time, then one, then what is left."""

from __future__ import annotations

from tautomer.codegen.cpp import Writer, named
from tautomer.codegen.expression import Node
from tautomer.codegen.schedule import inputs_of

_UNROLLED = 4


def result_pass(write: Writer, result: Node, kept: Node | None, stream: bool, rows: bool) -> list[str]:
    """The statements of the pass.

    Args:
        write: writes the expressions.
        result: what is stored.
        kept: a value that an earlier pass stored in the place of the result, or None.
        stream: whether to store past the caches.
        rows: whether this is one row, or all elements from `first` to `last`.
    """
    names = inputs_of([result], kept)
    parameters = [f"V {named(kept) if kept is not None and name == 'y' else name}" for name in names]
    parts = write.by_segments(names)
    begin, end = ("start", "end") if parts else ("0", "columns") if rows else ("first", "last")
    loop = [
        f"int64_t i = {begin};",
        *(_until_aligned(write, names, end) if stream else []),
        f"for (; i + 4 * LANES <= {end}; i += 4 * LANES) {{",
        *(f"  {line}" for line in _steps(write, names, stream, _UNROLLED)),
        "}",
        f"for (; i + LANES <= {end}; i += LANES) {{",
        *(f"  {line}" for line in _steps(write, names, stream, 1)),
        "}",
        f"if (i < {end}) {{",
        f"  store_part(y_row + i, {_part(write, names, f'{end} - i')}, {end} - i);",
        "}",
    ]
    return [
        f"const auto result = [&]({', '.join(parameters)}) INLINE_LAMBDA -> V {{",
        *(f"  {line}" for line in write.elements([result], kept)),
        f"  return {f'b{result.index}' if result.uniform else named(result)};",
        "};",
        *(write.over_segments(names, loop) if parts else loop),
    ]


def _steps(write: Writer, names: list[str], stream: bool, count: int) -> list[str]:
    """Whole vectors. All are computed before one is stored: a store could change what is loaded after it."""
    computed, stored = [], []
    for number in range(count):
        at = f" + {number} * LANES" if number else ""
        loads = ", ".join(write.loaded(name, at) for name in names)
        computed.append(f"const V r{number} = result({loads});")
        stored.append(f"{'put(streamed, ' if stream else 'store('}y_row + i{at}, r{number});")
    return computed + stored


def _part(write: Writer, names: list[str], count: str) -> str:
    return f"result({', '.join(write.loaded_part(name, count) for name in names)})"


def _until_aligned(write: Writer, names: list[str], end: str) -> list[str]:
    """The elements before the first to which a whole vector can be streamed."""
    return [
        "const int64_t before = before_aligned(y_row + i);",
        "const bool streamed = before >= 0;",
        f"const int64_t head = before < {end} - i ? before : {end} - i;",
        "if (head > 0) {",
        f"  store_part(y_row + i, {_part(write, names, 'head')}, head);",
        "  i += head;",
        "}",
    ]
