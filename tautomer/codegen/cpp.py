"""Expressions as C++: values per element as vectors of float32, values per row as double precision.

A value per row costs nothing beside the row, so it is computed with care: the mean of numbers around 10000
is subtracted in two parts, because the difference matters in its last digits.
"""

from __future__ import annotations

from collections.abc import Collection

from tautomer.codegen.expression import Node, float32_exactly, from_largest, never_positive
from tautomer.codegen.numbers_per_row import INFIX, computed, double, helpers_of, single
from tautomer.codegen.schedule import elements


class Writer:
    """Writes expressions, and remembers which functions they use.

    Args:
        segments: the operands of one number per part of a row.

    Attributes:
        functions: names for `vector_math`.
        helpers: names for `scalar_helpers`.
    """

    def __init__(self, segments: Collection[str] = ()) -> None:
        self.segments = segments
        self.functions: set[str] = set()
        self.helpers: set[str] = set()
        self._known: set[str] = set()

    def elements(self, roots: list[Node], kept: Node | None = None) -> list[str]:
        """Statements that compute values per element.

        Args:
            roots: what has to be computed.
            kept: a value that is there already.
        """
        return [
            f"const {'I' if node.op == 'compare' else 'V'} {named(node)} = {self._element(node)};"
            for node in elements(roots, kept)
            if node.op not in ("x", "operand") and node is not kept
        ]

    def inputs_per_call(self, nodes: list[Node], parameters: tuple[str, ...]) -> list[str]:
        """Statements for the parameters, operands of one number and the length of the row, where used."""
        lines = [
            f"const double {named(node)} = parameters[{parameters.index(node.name)}];"
            for node in nodes
            if node.op == "parameter"
        ]
        lines += [f"const double {node.name} = {_one(node.name)};" for node in nodes if node.op == "single"]
        return lines + ["const double count = (double)columns;" for node in nodes if node.op == "count"]

    def inputs_per_row(self, nodes: list[Node]) -> list[str]:
        """Statements for the numbers that operands have for a row, as far as they are used."""
        return [
            f"const double {name} = {_one(name, f' + row / {name}_period % {name}_count')};"
            for name in (node.name for node in nodes if node.op == "column")
        ]

    def loaded(self, name: str, at: str = "") -> str:
        """A vector of a tensor's elements; what is the same for a part of the row lies in a variable."""
        return name if name in self.segments else f"load({name}_row + i{at})"

    def loaded_part(self, name: str, count: str) -> str:
        """The last elements of a tensor, fewer than a vector."""
        return name if name in self.segments else f"load_part({name}_row + i, {count})"

    def loaded_first(self, name: str) -> str:
        """The first vector of a tensor's row, or less where the row is shorter."""
        if name in self.segments:
            return f"all(load_part({name}_row, 1)[0])"
        return f"load_part({name}_row, columns < LANES ? columns : LANES)"

    def by_segments(self, names: Collection[str]) -> bool:
        """Whether a pass that reads these tensors goes through a row part by part."""
        return any(name in self.segments for name in names)

    def over_segments(self, names: Collection[str], lines: list[str]) -> list[str]:
        """A loop over the parts of a row; each lies between `start` and `end`."""
        return [
            "for (int64_t segment = 0; segment < segments; ++segment) {",
            *(
                f"  const V {name} = all(load_part({name}_row + segment, 1)[0]);"
                for name in names
                if name in self.segments
            ),
            "  const int64_t start = segment * length, end = start + length;",
            *(f"  {line}" for line in lines),
            "}",
        ]

    def uniforms(self, roots: list[Node], fixed: bool = False, kept: Node | None = None) -> list[str]:
        """Statements for the values per row that the roots are computed from and that were not written yet.

        Args:
            roots: values of one pass, or the result.
            fixed: only those that are the same for all rows.
            kept: a value of an earlier pass that is there already.
        """
        lines: list[str] = []
        for node in elements(roots, kept):
            for argument in node.args if node is not kept else ():
                if argument.uniform and argument.op != "number" and argument.fixed >= fixed:
                    self._uniform(argument, lines)
                    self._form(node, argument, lines)
        for root in roots:
            if root.uniform and root.fixed >= fixed:
                self._uniform(root, lines)
                self._once(f"b{root.index}", f"const V b{root.index} = all((float){_value(root)});", lines)
        return lines

    def _once(self, name: str, statement: str, lines: list[str]) -> None:
        if name not in self._known:
            self._known.add(name)
            lines.append(statement)

    def _uniform(self, node: Node, lines: list[str]) -> None:
        """A value per row as a number."""
        if node.op in ("sum", "max", "number", "parameter", "count", "column", "single"):
            return  # these have their names from elsewhere
        for argument in node.args:
            self._uniform(argument, lines)
        kind = "bool" if node.op == "compare" else "double"
        self.helpers.update(helpers_of(node.op))
        text = computed(node.op, node.name, [_value(argument) for argument in node.args])
        self._once(named(node), f"const {kind} {named(node)} = {text};", lines)

    def _form(self, user: Node, node: Node, lines: list[str]) -> None:
        """A value per row as a vector, in the form in which its user wants it."""
        name, index = named(node), node.index
        if node.op == "compare":
            self._once(f"b{index}", f"const I b{index} = I{{}} - (int32_t){name};", lines)
        elif _by_reciprocal(user, node):
            self._once(f"r{index}", f"const V r{index} = all((float)(1.0 / {name}));", lines)
        else:
            self._once(f"b{index}", f"const V b{index} = all((float){name});", lines)
        if in_two_parts(user, node):
            self.helpers.add("low")
            self._once(f"l{index}", f"const V l{index} = all(low_part({name}));", lines)

    def _element(self, node: Node) -> str:
        if node.op == "neg":
            return f"-{named(node.args[0])}"
        if node.op in INFIX or node.op == "compare":
            a, b = (_operand(argument) for argument in node.args)
            if _by_reciprocal(node, node.args[1]):
                return f"{a} * r{node.args[1].index}"
            text = f"{a} {INFIX.get(node.op, node.name)} {b}"
            return f"({text}) - l{node.args[1].index}" if in_two_parts(node, node.args[1]) else text
        if node.op == "where":
            condition, a, b = (_vector(argument) for argument in node.args)
            return f"pick({condition}, {a}, {b})"
        if node.op in ("maximum", "minimum"):
            return self._extreme(node)
        name = _exponential(node.args[0]) if node.op == "exp" else node.op
        self.functions.add(name)
        return f"{name}({_vector(node.args[0])})"

    def _extreme(self, node: Node) -> str:
        self.functions.add(node.op)
        for limit, other in (node.args, node.args[::-1]):
            if limit.op == "number":
                name = "at_least" if node.op == "maximum" else "at_most"
                return f"{name}({single(limit.value)}, {named(other)})"
        return f"{node.op}({_vector(node.args[0])}, {_vector(node.args[1])})"


def named(node: Node) -> str:
    """The variable of a value."""
    if node.op in ("x", "operand", "column", "single", "count"):
        return node.name or node.op
    return f"{'u' if node.uniform else 't'}{node.index}"


def in_two_parts(user: Node, node: Node) -> bool:
    """Whether a value per row is subtracted with more digits than float32 has."""
    return user.op == "sub" and node is user.args[1] and node.level > 0 and not float32_exactly(node)


def _by_reciprocal(user: Node, node: Node) -> bool:
    """Whether a division is by what a reduction gave, which is done by one reciprocal for the row."""
    return user.op == "div" and node is user.args[1] and node.uniform and node.level > 0


def _exponential(argument: Node) -> str:
    """The cheapest function that gives e to this power."""
    if from_largest(argument):
        return "exp_relative"
    return "exp_nonpositive" if never_positive(argument) else "exp"


def _one(name: str, at: str = "") -> str:
    return f"(double)load_part({name}_all{at}, 1)[0]"


def _value(node: Node) -> str:
    return double(node.value) if node.op == "number" else named(node)


def _operand(node: Node) -> str:
    if node.op == "number":
        return single(node.value)
    return f"b{node.index}" if node.uniform else named(node)


def _vector(node: Node) -> str:
    return f"all({single(node.value)})" if node.op == "number" else _operand(node)
