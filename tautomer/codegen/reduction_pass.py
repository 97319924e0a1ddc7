"""A pass over a row that reduces: four vectors at a time, then one, then what is left of the row.

Each of the four has an accumulator of its own, so that no addition waits for the one before it. Sums in
float32 are closed after every block of the row.
"""

from __future__ import annotations

from tautomer.codegen.cpp import Writer, named
from tautomer.codegen.expression import Node
from tautomer.codegen.schedule import Schedule, inputs_of

_NEUTRAL = {"sum": "V{}", "max": "all(-__builtin_inff())"}
_PLACES = "abcd"


def accumulator(reduction: Node, plan: Schedule) -> str:
    """The type of what a reduction is gathered in."""
    if reduction.op == "max":
        return "Max"
    return "WideSum" if reduction in plan.wide else "Sum"


def reduction_pass(write: Writer, plan: Schedule, number: int, kept: Node | None) -> list[str]:
    """The statements of one pass.

    Args:
        write: writes the expressions.
        plan: all passes.
        number: which of them.
        kept: what this pass also stores in the place of the result, or None.
    """
    reductions = plan.passes[number]
    values = [reduction.args[0] for reduction in reductions]
    names = inputs_of(values)
    terms = f"terms{number}"
    parameters = [*(f"V {name}" for name in names), *(f"V& r{k}" for k in range(len(values)))]
    gathered = [f"{accumulator(node, plan)} g{k};" for k, node in enumerate(reductions)]
    blocks = any(accumulator(node, plan) == "Sum" for node in reductions)
    parts = write.by_segments(names)
    end = "end" if parts else "columns"
    step = "BLOCK" if blocks else end
    loop = [
        f"for (int64_t from = {'start' if parts else '0'}, to; from < {end}; from = to) {{",
        f"  to = {end} - from < {step} ? {end} : from + {step};",
        *(f"  {line}" for line in gathered),
        "  int64_t i = from;",
        "  for (; i + 4 * LANES <= to; i += 4 * LANES) {",
        *(f"    {line}" for line in _steps(write, reductions, names, terms, kept, _PLACES)),
        "  }",
        "  for (; i + LANES <= to; i += LANES) {",
        *(f"    {line}" for line in _steps(write, reductions, names, terms, kept, "a")),
        "  }",
        "  if (i < to) {",
        *(f"    {line}" for line in _tail(write, reductions, names, terms, kept)),
        "  }",
        *(f"  {_closed(node, k)}" for k, node in enumerate(reductions)),
        "}",
    ]
    return [
        f"const auto {terms} = [&]({', '.join(parameters)}) INLINE_LAMBDA {{",
        *(f"  {line}" for line in write.elements(values)),
        *(f"  r{k} = {named(value)};" for k, value in enumerate(values)),
        "};",
        *(f"double {named(node)} = {_start(node)};" for node in reductions),
        *(write.over_segments(names, loop) if parts else loop),
    ]


def _start(node: Node) -> str:
    return "0.0" if node.op == "sum" else "-__builtin_inf()"


def _closed(node: Node, k: int) -> str:
    if node.op == "sum":
        return f"{named(node)} += g{k}.value();"
    return f"{named(node)} = larger({named(node)}, g{k}.value());"


def _steps(
    write: Writer,
    reductions: tuple[Node, ...],
    names: list[str],
    terms: str,
    kept: Node | None,
    places: str,
) -> list[str]:
    """Whole vectors. All are computed before one is stored: a store could change what is loaded after it."""
    lines = []
    for number, place in enumerate(places):
        at = f" + {number} * LANES" if number else ""
        results = [f"r{k}{place}" for k in range(len(reductions))]
        loads = [write.loaded(name, at) for name in names]
        lines += [f"V {', '.join(results)};", f"{terms}({', '.join(loads + results)});"]
    for number, place in enumerate(places):
        at = f" + {number} * LANES" if number else ""
        for k, node in enumerate(reductions):
            if node.args[0] is kept:
                lines.append(f"store(y_row + i{at}, r{k}{place});")
            lines.append(_gather(node, k, place))
    return lines


def _tail(
    write: Writer, reductions: tuple[Node, ...], names: list[str], terms: str, kept: Node | None
) -> list[str]:
    """The last, partial vector; lanes that are not there count as the neutral element."""
    results = [f"r{k}a" for k in range(len(reductions))]
    loads = [write.loaded_part(name, "to - i") for name in names]
    lines = [
        f"V {', '.join(results)};",
        f"{terms}({', '.join(loads + results)});",
        "const I there = first_lanes(to - i);",
    ]
    for k, node in enumerate(reductions):
        if node.args[0] is kept:
            lines.append(f"store_part(y_row + i, r{k}a, to - i);")
        lines += [f"r{k}a = pick(there, r{k}a, {_NEUTRAL[node.op]});", _gather(node, k, "a")]
    return lines


def _gather(node: Node, k: int, place: str) -> str:
    return f"g{k}.{place} += r{k}{place};" if node.op == "sum" else f"g{k}.take(g{k}.{place}, r{k}{place});"
