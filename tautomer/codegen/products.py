"""Sums of products of values: the form in which derivatives are added up and simplified.

    sum over k of   c_k * n_k1 * n_k2 * ... / (d_k1 * d_k2 * ...)

Products of the same factors become one term, a factor above cancels one below, and terms that add up to zero
are gone. Sums over a row are taken term by term, and what is the same for the whole row goes out of them:

    sum(u a + v b) = u sum(a) + v sum(b)

so that what cancels in mathematics, as the derivative by the maximum that a softmax is shifted by, cancels
here, and each reduction waits for as few others as it can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tautomer.codegen.expression import Expressions, Node
from tautomer.codegen.identities import simplified

Powers = tuple[tuple[Node, int], ...]  # factors by index, each with its exponent


@dataclass(frozen=True)
class Sum:
    """A sum of products: factors -> coefficient."""

    terms: Mapping[Powers, float]


ZERO = Sum({})


class Products:
    """Calculates with sums of products.

    Args:
        make: makes the nodes.
        known: the nodes of the program whose quotients are to be recognised.
    """

    def __init__(self, make: Expressions, known: Iterable[Node]) -> None:
        self._make = make
        # (above, below) -> the node that is their quotient, and back
        self._quotients: dict[tuple[Node, Node], Node] = {}
        for node in known:
            if node.uniform:
                continue
            if node.op == "div" and node.args[1].op == "sum":
                self._quotients[node.args[0], node.args[1]] = node
            elif node.op == "sub" and node.args[1].op == "log" and node.args[1].args[0].op == "sum":
                # e^a / s = e^(a - log s)
                above = make.node("exp", node.args[0])
                self._quotients[above, node.args[1].args[0]] = make.node("exp", node)
        self._parts = {node: parts for parts, node in self._quotients.items()}

    def of(self, node: Node) -> Sum:
        """A value as a single product."""
        coefficient, factors = self._factors(node)
        return self._sum([(coefficient, factors)])

    def plus(self, a: Sum, b: Sum) -> Sum:
        """a + b."""
        return self._sum([(c, Counter(dict(powers))) for one in (a, b) for powers, c in one.terms.items()])

    def times(self, a: Sum, b: Sum) -> Sum:
        """a * b."""
        return self._sum(
            [(c * d, _joined(dict(p), dict(q))) for p, c in a.terms.items() for q, d in b.terms.items()]
        )

    def row_sum(self, a: Sum) -> Sum:
        """The sum over the row."""
        total = ZERO
        for powers, coefficient in a.terms.items():
            outside = self._sum([(coefficient, {n: k for n, k in powers if n.uniform})])
            inside = {n: k for n, k in powers if not n.uniform}
            total = self.plus(total, self.times(outside, self._reduced(inside)))
        return total

    def node(self, a: Sum) -> Node:
        """The value, in the form with the fewest operations on elements."""
        by_element: dict[Powers, list[tuple[Powers, float]]] = {}
        for powers, coefficient in a.terms.items():
            element = tuple((n, k) for n, k in powers if not n.uniform)
            uniform = tuple((n, k) for n, k in powers if n.uniform)
            by_element.setdefault(element, []).append((uniform, coefficient))
        groups = [
            (self._added([self._product(c, u) for u, c in parts]), dict(element))
            for element, parts in by_element.items()
        ]
        return self._nested(groups) if groups else self._make.number(0.0)

    def _factors(self, node: Node) -> tuple[float, dict[Node, int]]:
        if node.op == "number":
            return node.value, {}
        if node.op == "neg":
            coefficient, factors = self._factors(node.args[0])
            return -coefficient, factors
        if node.op in ("mul", "div"):
            (a, p), (b, q) = (self._factors(argument) for argument in node.args)
            if node.op == "mul":
                return a * b, _joined(p, q)
            if b:  # what is divided by zero stays as it is
                return a / b, _joined(p, {n: -k for n, k in q.items()})
        return 1.0, {node: 1}

    def _sum(self, terms: Iterable[tuple[float, Mapping[Node, int]]]) -> Sum:
        found: dict[Powers, float] = {}
        for coefficient, factors in terms:
            powers = self._recognised(dict(factors))
            found[powers] = found.get(powers, 0.0) + coefficient
        return Sum({powers: c for powers, c in found.items() if c})

    def _recognised(self, factors: dict[Node, int]) -> Powers:
        """The factors in order, with quotients that the program computes anyway as one."""
        for (above, below), quotient in self._quotients.items():
            while factors.get(above, 0) > 0 and factors.get(below, 0) < 0:
                factors = _joined(factors, {above: -1, below: 1, quotient: 1})
        return tuple(sorted(((n, k) for n, k in factors.items() if k), key=lambda one: one[0].index))

    def _reduced(self, factors: dict[Node, int]) -> Sum:
        """The sum over the row of a product of values per element."""
        if not factors:
            return self.of(self._make.node("count"))
        if list(factors.values()) == [1]:
            (only,) = factors
            if only in self._parts:
                above, below = self._parts[only]
                one = self._sum([(1.0, {below: -1})])
                return self.times(one, self._reduced({above: 1}))
            if only.op in ("add", "sub"):
                a, b = (self.of(argument) for argument in only.args)
                sign = self.of(self._make.number(1.0 if only.op == "add" else -1.0))
                return self.row_sum(self.plus(a, self.times(sign, b)))
        return self.of(self._make.node("sum", self._product(1.0, tuple(factors.items()))))

    def _added(self, nodes: list[Node]) -> Node:
        total = nodes[0]
        for node in nodes[1:]:
            total = simplified(self._make, "add", total, node)
        return total

    def _product(self, coefficient: float, powers: Powers) -> Node:
        above = self._multiplied([n for n, k in powers for _ in range(k)])
        below = self._multiplied([n for n, k in powers for _ in range(-k)])
        quotient = simplified(self._make, "div", above, below)
        return simplified(self._make, "mul", self._make.number(coefficient), quotient)

    def _multiplied(self, nodes: list[Node]) -> Node:
        value = self._make.number(1.0)
        for node in nodes:
            value = simplified(self._make, "mul", value, node)
        return value

    def _nested(self, groups: list[tuple[Node, dict[Node, int]]]) -> Node:
        """Horner's form: the factor that most terms share goes before the bracket, and so on inside."""
        shared = Counter(n for _, factors in groups for n, k in factors.items() if k > 0)
        factor, count = max(shared.items(), key=lambda one: (one[1], -one[0].index), default=(None, 0))
        if factor is None or count < 2:
            return self._added([self._scaled(uniform, factors) for uniform, factors in groups])
        inside = [(u, _joined(f, {factor: -1})) for u, f in groups if f.get(factor, 0) > 0]
        outside = [(u, f) for u, f in groups if f.get(factor, 0) <= 0]
        nested = simplified(self._make, "mul", factor, self._nested(inside))
        return simplified(self._make, "add", nested, self._nested(outside)) if outside else nested

    def _scaled(self, uniform: Node, factors: dict[Node, int]) -> Node:
        if not factors:
            return uniform
        return simplified(self._make, "mul", uniform, self._product(1.0, tuple(factors.items())))


def _joined(a: Mapping[Node, int], b: Mapping[Node, int]) -> dict[Node, int]:
    joined = dict(a)
    for node, k in b.items():
        joined[node] = joined.get(node, 0) + k
    return {node: k for node, k in joined.items() if k}
