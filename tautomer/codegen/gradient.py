"""The gradient of a program over rows, as another program over rows: reverse mode, done on the expression.

For y = f(x, ...) and g = dL/dy, the program of the gradient computes dL/dx, dL/d(operand of x's shape), and,
added up over the rows, dL/d(operand of a row's shape). The derivative of a value per row by the elements of
the row is a sum over the row (and the other way round, one number for all elements), so what comes out has
the same form as what went in. Values per row are computed again from x, which costs a look at a row in a near
cache and saves a tensor; where all can be computed from y, as for softmax, y takes the place of x.
"""

from __future__ import annotations

from dataclasses import dataclass

from tautomer.codegen.derivatives import derivatives
from tautomer.codegen.expression import Expressions, Node, reachable
from tautomer.codegen.products import ZERO, Products, Sum
from tautomer.codegen.trace import Program
from tautomer.errors import InputError

GRADIENT = "gradient"
GRADIENT_OF_SUM = "sum_gradient"


@dataclass(frozen=True)
class Gradient:
    """The gradient of a program.

    Attributes:
        program: its x is the x of the program, or the result; its operands are the gradients of what the
            program stores, and those operands of the program that are needed.
        from_result: whether its x is the result.
        of: whose gradients the outputs are, in order.
    """

    program: Program
    from_result: bool
    of: tuple[str, ...]


def gradient(forward: Program) -> Gradient:
    """Differentiates a program.

    A program that also gives x + residual is differentiated at that sum: its gradient is that of x and of the
    residual, and the sum takes the place of x.

    Raises:
        InputError: the gradient does not exist in this form.
    """
    make = Expressions()
    with_sum = forward.names == ("y", "sum")
    if not with_sum and len(forward.names) > 1:
        raise InputError("there are several results", where=GRADIENT)
    instead = {forward.results[1]: make.node("x")} if with_sum else {}
    (result,) = _copied(make, forward.results[:1], instead)
    kinds = dict(zip(forward.operands, forward.kinds, strict=True))
    if not set(kinds.values()) <= {"full", "row"}:
        raise InputError("an operand is neither of the shape of x nor of a row", where=GRADIENT)
    used = {node.name for node in reachable([result]) if node.op == "operand"}
    names = [name for name in forward.operands if name in used or kinds[name] == "row"]
    calculus = Products(make, reachable([result]))
    adjoints = _adjoints(make, calculus, result)
    found = {name: adjoints.get(make.node("operand", name=name), ZERO) for name in names}
    found = {"x": adjoints.get(make.node("x"), ZERO)} | found
    if with_sum:
        other = calculus.of(make.node("operand", name=GRADIENT_OF_SUM))
        found["x"] = calculus.plus(found["x"], other)
    roots = tuple(calculus.node(one) for one in found.values())
    from_result = not any(n.op in ("x", "operand") and n.name != GRADIENT for n in _before(roots, result))
    clean = Expressions()
    roots = _copied(clean, roots, {result: clean.node("x")} if from_result else {})
    seeds = (GRADIENT, GRADIENT_OF_SUM) if with_sum else (GRADIENT,)
    read = {node.name for node in reachable(roots) if node.op == "operand"}
    operands = (*seeds, *(name for name in names if name in read))
    return Gradient(
        Program(
            roots,
            tuple("y" if name == "x" else f"of_{name}" for name in found),
            operands,
            tuple(kinds.get(name, "full") for name in operands),
            forward.parameters,
            forward.rows,
            totals=tuple(f"of_{name}" for name in names if kinds[name] == "row"),
        ),
        from_result,
        tuple(found),
    )


def _before(roots: tuple[Node, ...], result: Node) -> list[Node]:
    """What the roots are computed from when the result is given."""
    return reachable(roots, lambda node: node is not result)


def _adjoints(make: Expressions, calculus: Products, result: Node) -> dict[Node, Sum]:
    """The derivative of L by every input."""
    order = reachable([result])
    variable: set[Node] = set()  # only asked for membership
    for node in order:
        if node.op in ("x", "operand") or any(argument in variable for argument in node.args):
            variable.add(node)
    adjoints: dict[Node, Sum] = {result: calculus.of(make.node("operand", name=GRADIENT))}
    for node in reversed(order):
        if node not in variable or node.op in ("x", "operand"):
            continue
        adjoint = adjoints.pop(node, ZERO)
        if not adjoint.terms:
            continue
        if node.op == "max":
            raise InputError("the result depends on which element is the largest", where=GRADIENT)
        if node.op == "sum":
            parts = [(node.args[0], adjoint)]
        else:
            parts = [(a, calculus.times(adjoint, calculus.of(d))) for a, d in derivatives(make, node)]
        for argument, part in parts:
            if argument in variable:
                gathered = calculus.row_sum(part) if argument.uniform and not node.uniform else part
                adjoints[argument] = calculus.plus(adjoints.get(argument, ZERO), gathered)
    return adjoints


def _copied(make: Expressions, roots: tuple[Node, ...], instead: dict[Node, Node]) -> tuple[Node, ...]:
    """The same expressions, with some values replaced."""
    copies = dict(instead)
    for node in reachable(roots, lambda node: node not in instead):
        if node not in copies:
            arguments = (copies[argument] for argument in node.args)
            copies[node] = make.node(node.op, *arguments, name=node.name, value=node.value)
    return tuple(copies[root] for root in roots)
