"""edge sums: a sum over inputs of what each edge of a KAN layer gives  ->  matrix products.

    sum over j of P[j, o] a[n, j]                              = a P
    sum over j of P[j, o] (sum over k of B[n, j, k] C[j, o, k]) = reshape(B, [n, j k]) reshape(P C, [j k, o])

P is the product of all constants per edge on the way; of a sum of such terms each is taken by itself.
Condition: nobody else reads what an edge gives, which has as many elements as there are examples, inputs and
outputs together, and is never made then. pykan has its layers so: masks and two scales for each edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.naming import label
from tautomer.graph.semantics.einsum import terms
from tautomer.graph.semantics.reductions import axes_of
from tautomer.passes.linear_maps.weight_check import unfit
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_MOST_TERMS = 8
_SITE = 1 << 14  # elements of the constants up to which a site is checked on its own, in a second


@dataclass(frozen=True)
class EdgeSums:
    """Makes matrix products of sums over edges."""

    name: ClassVar[str] = "edge sums"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each sum."""
        remarks = []
        for node in [node for node in work.model.graph if node.op_type == "ReduceSum" and not node.domain]:
            found = _site(work, node)
            if not found:
                continue
            reason = _rewrite(work, node, found)
            kind, said = ("missed", reason) if reason else ("passed", f"it is {len(found)} matrix products")
            remarks.append(Remark(kind, self.name, "MatMul", label(node), said))  # type: ignore[arg-type]
        return remarks


@dataclass(frozen=True)
class _Term:
    """A term of the sum.

    Attributes:
        value: a [n, j], or B [n, j, k].
        constants: whose product P is, each of a number per edge or one for all.
        curves: C with its axes in the order j, k, o; None where there is a.
        order: the permutation that gives it that order.
    """

    value: ir.Value
    constants: tuple[ir.Value, ...]
    curves: ir.Value | None = None
    order: tuple[int, ...] = ()


def _site(work: Workspace, node: ir.Node) -> list[_Term]:
    """The terms of a sum over the second of three axes; none where it is another sum, or of other terms."""
    value = node.inputs[0]
    shape = work.facts.get(value).shape
    given = work.facts.get(node.inputs[1]).array if len(node.inputs) > 1 else None
    call = call_of(node, work.version)
    listed = None if given is None else [int(axis) for axis in given.reshape(-1)]
    if value is None or shape is None or len(shape) != 3 or call.get("keepdims", 1):
        return []
    if list(axes_of(call, listed, 3)) != [1] or shape[2] < 2:
        return []
    found = _terms(work, value, shape, ())
    return [] if found is None or not any(term.curves is not None for term in found) else found


def _terms(
    work: Workspace, value: ir.Value, shape: Sequence[int], constants: tuple[ir.Value, ...]
) -> list[_Term] | None:
    """The terms of a value, or None where it is something else."""
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Unsqueeze" and work.facts.get(value).shape == (*shape[:2], 1):
        inner = node.inputs[0]
        whole = any(work.facts.get(each).size == shape[1] * shape[2] for each in constants)
        return [_Term(inner, constants)] if inner is not None and whole else None
    if len(value.uses()) != 1 or value.is_graph_output() or work.facts.get(value).shape != tuple(shape):
        return None
    if node.op_type == "Einsum":
        return _curves(work, node, shape, constants)
    first, second = node.inputs[:2] if len(node.inputs) > 1 else (None, None)
    if first is None or second is None or node.op_type not in ("Add", "Mul"):
        return None
    if node.op_type == "Add":
        parts = [_terms(work, each, shape, constants) for each in (first, second)]
        total = [term for part in parts if part is not None for term in part]
        return None if None in parts or len(total) > _MOST_TERMS else total
    for constant, other in ((first, second), (second, first)):
        fact = work.facts.get(constant)
        if fact.constant and _per_edge(fact.shape, shape):
            return _terms(work, other, shape, (*constants, constant))
    return None


def _per_edge(shape: Sequence[int] | None, whole: Sequence[int]) -> bool:
    """Whether a constant has a number for each edge, or one for all."""
    if shape is None or len(shape) > 3:
        return False
    return prod(shape) == 1 or (1,) * (3 - len(shape)) + tuple(shape) == (1, *whole[1:])


def _curves(
    work: Workspace, node: ir.Node, shape: Sequence[int], constants: tuple[ir.Value, ...]
) -> list[_Term] | None:
    """The term that sums a basis with coefficients for each edge."""
    facts = [work.facts.get(value) for value in node.inputs]
    if len(facts) != 2 or facts[0].shape is None or facts[1].shape is None:
        return None
    equation = str(call_of(node, work.version).attributes["equation"])
    written, result = terms(equation, [len(fact.shape or ()) for fact in facts])
    for index in (0, 1):
        basis, held = written[index], written[1 - index]
        value, curves = node.inputs[index], node.inputs[1 - index]
        if not facts[1 - index].constant or value is None or curves is None or len(basis) != 3:
            continue
        n, j, k = list(basis)
        o = result[-1:]
        if result == n + j + o and len({n, j, k, o}) == 4 and sorted(held) == sorted(j + k + o):
            return [_Term(value, constants, curves, tuple(held.index(letter) for letter in (j, k, o)))]
    return None


def _rewrite(work: Workspace, node: ir.Node, found: list[_Term]) -> str:
    """Rewrites a sum; the reason why not, or ""."""
    value, graph = node.inputs[0], node.graph
    assert isinstance(graph, ir.Graph) and value is not None
    shape = work.facts.get(value).shape
    assert shape is not None
    fixed = [work.recognition.static(value, (1, 2))]
    fixed += [work.recognition.static(term.value, (2,)) for term in found if term.curves is not None]
    if not all(fixed):
        return "the number of its edges is not fixed"
    held = list(dict.fromkeys(c for term in found for c in (*term.constants, term.curves) if c is not None))
    reason = next((each for each in (unfit(work, constant) for constant in held) if each), "")
    if reason:
        return reason
    b = work.builder(graph)
    new: ir.Value | None = None
    for term in found:
        part = _product(work, b, term, shape)
        new = part if new is None else b.op("Add", new, part)
    assert new is not None
    sizes = [tuple(work.facts.get(constant).size for constant in term.constants) for term in found]
    key = (EdgeSums.name, shape, *zip(sizes, (term.order for term in found), strict=True))
    small = sum(work.facts.get(constant).size or 0 for constant in held) <= _SITE
    read = [term.value for term in found]
    reason = work.refuses_linear(key, node.outputs[0], new, read, small=small)
    if reason:
        b.discard()
        return reason
    work.replace(node.outputs[0], new, b, [node])
    work.catch_up()
    return ""


def _product(work: Workspace, b: Builder, term: _Term, shape: Sequence[int]) -> ir.Value:
    """a P, or B (P C)."""
    _, inputs, outputs = shape
    middle = () if term.curves is None else (1,)
    matrix: ir.Value | None = None
    if term.curves is not None:
        matrix = b.op("Transpose", term.curves, perm=list(term.order))
    for constant in term.constants:
        size = (inputs, *middle, outputs) if (work.facts.get(constant).size or 0) > 1 else (1,)
        factor = b.op("Reshape", constant, b.constant(np.array(size, np.int64)))
        matrix = factor if matrix is None else b.op("Mul", matrix, factor)
    assert matrix is not None
    if term.curves is None:
        return b.op("MatMul", term.value, matrix)
    long = inputs * (work.facts.get(term.value).shape or (1,))[-1]
    flat = b.op("Reshape", term.value, b.constant(np.array([-1, long], np.int64)))
    return b.op("MatMul", flat, b.op("Reshape", matrix, b.constant(np.array([long, outputs], np.int64))))
