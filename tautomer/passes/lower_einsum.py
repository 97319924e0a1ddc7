"""lower einsum: Einstein's sum of a tensor and a constant over the tensor's last axes  ->  a matrix product.

    einsum("b i d, i o d -> b o", a, C) = reshape(a, [b, i d]) reshape(transpose(C), [i d, o])
    einsum("b s i, i o -> b s o", a, C) = a C

Condition: no letter of the constant stays beside the tensor's own, the letters that stay come in the order
of the tensor's, then of the constant's, and where several axes are summed one stays in front of them. The
constant is arranged ahead. Polynomial layers (Chebyshev and Jacobi KAN) and linear maps are written so; as
a product it is what all passes know, and needs no operator that plans at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.naming import label
from tautomer.graph.semantics.einsum import terms
from tautomer.passes.linear_maps.weight_check import expression_behind
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_SITE = 1 << 14  # elements of the constant up to which a site is checked on its own, in a second


@dataclass(frozen=True)
class LowerEinsum:
    """Makes matrix products of Einstein's sums with a constant."""

    name: ClassVar[str] = "lower einsum"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each sum of a tensor and a constant."""
        remarks = []
        for node in [node for node in work.model.graph if node.op_type == "Einsum" and not node.domain]:
            constant = [work.facts.get(value).constant for value in node.inputs]
            if len(constant) != 2 or sum(constant) != 1:
                continue
            reason = _rewrite(work, node, constant.index(True))
            kind, said = ("missed", reason) if reason else ("passed", "it is one matrix product")
            remarks.append(Remark(kind, self.name, "MatMul", label(node), said))  # type: ignore[arg-type]
        return remarks


def _rewrite(work: Workspace, node: ir.Node, where: int) -> str:
    """Rewrites a sum; the reason why not, or ""."""
    x, constant = node.inputs[1 - where], node.inputs[where]
    shapes = [work.facts.get(value).shape for value in node.inputs]
    if x is None or constant is None or None in shapes:
        return "the shapes of its operands are not known"
    equation = str(call_of(node, work.version).attributes["equation"])
    written, result = terms(equation, [len(shape or ()) for shape in shapes])
    given, held = written[1 - where], written[where]
    sizes = dict(zip(held, shapes[where] or (), strict=True))
    summed = "".join(letter for letter in given if letter in held)
    rows, columns = given.removesuffix(summed), "".join(letter for letter in held if letter not in given)
    columns = "".join(letter for letter in result if letter in columns)
    if len(set(given)) < len(given) or len(set(held)) < len(held) or not summed or rows + summed != given:
        return f"it does not sum over the last axes of '{x.name}' alone"
    if result != rows + columns or set(held) != {*summed, *columns}:
        return "letters of both stay, or come in another order, and it is a product for each of them"
    if (len(summed) > 1 or len(columns) > 1) and len(rows) != 1:
        return "several axes stay, and several are summed or made"
    if any(sizes[c] != n for c, n in zip(given, shapes[1 - where] or (), strict=True) if c in sizes):
        return "it repeats an axis of one element"
    found = expression_behind(work, constant)
    if isinstance(found, str):
        return found
    graph = node.graph
    extent = [prod(sizes[c] for c in letters) for letters in (summed, columns) if letters]
    assert isinstance(graph, ir.Graph)
    b = work.builder(graph)
    order = [held.index(c) for c in summed + columns]
    turned = constant if order == sorted(order) else b.op("Transpose", constant, perm=order)
    matrix = turned
    if len(held) != len(extent):
        matrix = b.op("Reshape", turned, b.constant(np.array(extent, np.int64)))
    flat = x if len(summed) == 1 else b.op("Reshape", x, b.constant(np.array([-1, extent[0]], np.int64)))
    new = b.op("MatMul", flat, matrix)
    if len(columns) > 1:
        new = b.op("Reshape", new, b.constant(np.array([-1, *(sizes[c] for c in columns)], np.int64)))
    key = (LowerEinsum.name, equation, *shapes)
    small = (work.facts.get(constant).size or 0) <= _SITE
    reason = work.refuses_linear(key, node.outputs[0], new, [x], small=small)
    if reason:
        b.discard()
        return reason
    work.replace(node.outputs[0], new, b, [node])
    work.catch_up()
    return ""
