"""A pass over a row that reduces: four vectors at a time, then one, then what is left of the row.

Each of the four has an accumulator of its own, so that no addition waits for the one before it. Sums in
float32 are closed after every block of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tautomer.codegen.cpp import Writer, named
from tautomer.codegen.expression import Node
from tautomer.codegen.schedule import Schedule, inputs_of

_PLACES = "abcd"


def accumulator(reduction: Node, plan: Schedule) -> str:
    """The type of what a reduction is gathered in."""
    if reduction.op == "max":
        return "Max" if reduction in plan.plain else "MaxOrNan"
    return "Sum"


def reduction_pass(
    write: Writer, plan: Schedule, number: int, kept: Node | None, ahead: Sequence[str] = ()
) -> list[str]:
    """The statements of one pass.

    Args:
        write: writes the expressions.
        plan: all passes.
        number: which of them.
        kept: what this pass also stores in the place of the result, or None.
        ahead: the statements that ask for what a later row needs.
    """
    reductions = plan.passes[number]
    values = [reduction.args[0] for reduction in reductions]
    names = inputs_of(values)
    made = _Pass(write, plan, reductions, names, f"terms{number}", kept)
    parameters = [*(f"V {name}" for name in names), *(f"V& r{k}" for k in range(len(values)))]
    parts = write.by_segments(names)
    end = "end" if parts else "columns"
    step = "BLOCK" if any(node.op == "sum" for node in reductions) else end
    loop = [
        f"for (int64_t from = {'start' if parts else '0'}, to; from < {end}; from = to) {{",
        f"  to = {end} - from < {step} ? {end} : from + {step};",
        *(f"  {accumulator(node, plan)} g{k};" for k, node in enumerate(reductions)),
        *(f"  Sum h{k};" for k, node in enumerate(reductions) if node in made.squared),
        "  int64_t i = from;",
        "  for (; i + 4 * LANES <= to; i += 4 * LANES) {",
        *(f"    {line}" for line in (*ahead, *made.steps(_PLACES))),
        "  }",
        "  for (; i + LANES <= to; i += LANES) {",
        *(f"    {line}" for line in made.steps("a")),
        "  }",
        "  if (i < to) {",
        *(f"    {line}" for line in made.tail()),
        "  }",
        *(f"  {_closed(node, k)}" for k, node in enumerate(reductions)),
        *(
            f"  squares{node.index} += h{k}.value();"
            for k, node in enumerate(reductions)
            if node in made.squared
        ),
        "}",
    ]
    saved = kept is None and all(node in plan.squares for node in reductions)
    statements = [
        f"const auto {made.terms} = [&]({', '.join(parameters)}) INLINE_LAMBDA {{",
        *(f"  {line}" for line in write.elements(values)),
        *(f"  r{k} = {named(value)};" for k, value in enumerate(values)),
        "};",
        *made.pivots(),
        *(f"{'' if saved else 'double '}{named(node)} = {_start(node)};" for node in reductions),
        *(f"double squares{node.index} = 0.0;" for node in made.squared),
        *(write.over_segments(names, loop) if parts else loop),
        *(
            f"const double taken{node.index} = {named(node)} * {named(node)} / (double)columns;"
            for node in made.squared
        ),
        *(f"{named(node)} += pivot{node.index} * (double)columns;" for node in made.wide),
    ]
    return _unless_known(statements, plan, reductions) if saved else statements


def _unless_known(statements: list[str], plan: Schedule, reductions: Sequence[Node]) -> list[str]:
    """Sums of squares from those of an earlier pass; the statements are for rows where they are not exact."""
    pairs = [(node, plan.squares[node]) for node in reductions]
    exact = " && ".join(f"taken{total.index} <= {named(node)}" for node, total in pairs)
    return [
        *(f"double {named(node)} = squares{total.index} - taken{total.index};" for node, total in pairs),
        f"if (__builtin_expect(!({exact}), 0)) {{",
        *(f"  {line}" for line in statements),
        "}",
    ]


def _start(node: Node) -> str:
    return "0.0" if node.op == "sum" else "-__builtin_inf()"


def _closed(node: Node, k: int) -> str:
    if node.op == "sum":
        return f"{named(node)} += g{k}.value();"
    return f"{named(node)} = larger({named(node)}, g{k}.value());"


@dataclass(frozen=True)
class _Pass:
    """What the statements of a pass refer to.

    Attributes:
        write: writes the expressions.
        plan: all passes.
        reductions: those of this pass.
        names: the tensors that it reads.
        terms: the function that gives what is reduced.
        kept: what is also stored in the place of the result, or None.
    """

    write: Writer
    plan: Schedule
    reductions: tuple[Node, ...]
    names: list[str]
    terms: str
    kept: Node | None

    @property
    def wide(self) -> list[Node]:
        """The sums that need more digits than float32 has."""
        return [node for node in self.reductions if node in self.plan.wide]

    @property
    def squared(self) -> list[Node]:
        """Those whose squares relative to the pivot are summed, too."""
        return [node for node in self.reductions if node in self.plan.squares.values()]

    def pivots(self) -> list[str]:
        """The middle of the first terms of each sum that needs more digits; from every term it is subtracted.

        sum t = sum (t - p) + n p. What float32 loses is then relative to how far the terms lie from each
        other, and so is the result, which has a multiple of the sum subtracted. First terms far from all
        others make the largest element of the result themselves.
        """
        if not self.wide:
            return []
        results = [f"pivots{node.index}" for node in self.reductions]
        first = [
            f"const float pivot{node.index} = middle(pivots{node.index}, columns);" for node in self.wide
        ]
        return [*self._computed(results, [self.write.loaded_first(name) for name in self.names]), *first]

    def steps(self, places: str) -> list[str]:
        """Whole vectors. All are computed before one is stored: it could change what is loaded after it."""
        lines = []
        for number, place in enumerate(places):
            at = f" + {number} * LANES" if number else ""
            results = [f"r{k}{place}" for k in range(len(self.reductions))]
            lines += self._computed(results, [self.write.loaded(name, at) for name in self.names])
        for number, place in enumerate(places):
            at = f" + {number} * LANES" if number else ""
            for k, node in enumerate(self.reductions):
                if node.args[0] is self.kept:
                    lines.append(f"store(y_row + i{at}, r{k}{place});")
                lines.append(self._gathered(node, k, place))
        return lines

    def tail(self) -> list[str]:
        """The last, partial vector; lanes that are not there count as the neutral element."""
        results = [f"r{k}a" for k in range(len(self.reductions))]
        lines = self._computed(results, [self.write.loaded_part(name, "to - i") for name in self.names])
        lines.append("const I there = first_lanes(to - i);")
        for k, node in enumerate(self.reductions):
            if node.args[0] is self.kept:
                lines.append(f"store_part(y_row + i, r{k}a, to - i);")
            lines.append(f"r{k}a = pick(there, r{k}a, {self._neutral(node)});")
            lines.append(self._gathered(node, k, "a"))
        return lines

    def _computed(self, results: list[str], loads: list[str]) -> list[str]:
        return [f"V {', '.join(results)};", f"{self.terms}({', '.join(loads + results)});"]

    def _neutral(self, node: Node) -> str:
        if node.op == "max":
            return "all(-__builtin_inff())"
        return f"all(pivot{node.index})" if node in self.plan.wide else "V{}"

    def _gathered(self, node: Node, k: int, place: str) -> str:
        if node.op == "max":
            return f"g{k}.take(g{k}.{place}, r{k}{place});"
        if node in self.squared:
            difference = f"const V d = r{k}{place} - pivot{node.index};"
            return f"{{ {difference} g{k}.{place} += d; h{k}.{place} += d * d; }}"
        pivot = f" - pivot{node.index}" if node in self.plan.wide else ""
        return f"g{k}.{place} += r{k}{place}{pivot};"
