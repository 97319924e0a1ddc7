"""reassociate: (A B) C  ->  A (B C), where only factors per row of A and per column of B stand between.

    (r * (A B) * c) C     =  r * (A ((B * c) C))      A [n, k], B [k, m], C [m, p]; r [n, 1], c [1, m]
    r * sum(A B * c, -1)  =  r * (A sum(B * c, -1))

Condition: nothing else reads what lies between the products, neither A nor B is a constant, and it takes
few multiplications: k p (n + m), a third of n m (k + p) or less. This is linear attention, phi(q) (phi(k)^T
v), which never makes its scores [n, m]; its row normaliser 1 / (phi(q) sum(phi(k))) is the second line. A
chain of products, as SOFT has it, is the first line without factors. A bias, a mask or any function of
scores forbids it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.naming import label
from tautomer.passes.linear_maps.triple_products import (
    SUMS,
    Reader,
    Sizes,
    is_plain,
    product_behind,
    readers_of,
)
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.cone_operators import MOVEMENT, ConeOperators
from tautomer.remarks import Remark

# times the multiplications: at twice as many, torch's calls took longer than they saved
_GAINS = 3
_MOST_FEATURES = 24  # nodes before them
_MOVES = MOVEMENT - {"Concat", "Identity", "Transpose"}  # of shapes that few rows of a tensor do not have


@dataclass(frozen=True)
class Reassociate:
    """Changes the order of products of three matrices where that takes fewer multiplications."""

    name: ClassVar[str] = "reassociate"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each product that another one reads."""
        remarks = []
        tried: set[int] = set()
        for node in list(work.model.graph):
            product = product_behind(work, node) if is_plain(node, "MatMul") else None
            if product is None or product.graph is None or id(product) in tried:
                continue
            tried.add(id(product))
            remark = self._reassociate(work, product)
            remarks += [] if remark is None else [remark]
        if any(remark.kind == "passed" for remark in remarks):
            work.catch_up()
        return remarks

    def _reassociate(self, work: Workspace, product: ir.Node) -> Remark | None:
        where = label(product)
        readers = readers_of(work, product)
        if isinstance(readers, str):
            return Remark("missed", self.name, "MatMul", where, readers)
        sizes = [
            Sizes.of(work, product, reader.node) for reader in readers if reader.node.op_type == "MatMul"
        ]
        before = sizes[0].first() + sum(each.second() for each in sizes)
        after = sum(each.other() for each in sizes)
        if before == after:
            return None
        reason = _obstacle(work, product, sizes)
        if not reason and before < _GAINS * after:
            reason = f"the other order takes {after} multiplications for {before}: a third of them gains"
        if reason:
            return Remark("missed", self.name, "MatMul", where, reason)
        made = []
        for reader in readers:
            b = work.builder(work.model.graph)
            old, new = reader.node.outputs[0], _rewritten(b, product, reader)
            made.append((b, old, new))
            read, features = _origins(work, product, b)
            key = (_key(work, product, reader), features)
            reason = reason or work.evidence.refuses(key, old, new, work.leaves(read))
        if reason:
            for b, _, _ in made:
                b.discard()
            return Remark("missed", self.name, "MatMul", where, reason)
        gone = [product, *dict.fromkeys(step.node for reader in readers for step in reader.steps)]
        for (b, old, new), reader in zip(made, readers, strict=True):
            work.replace(old, new, b, [*gone, reader.node])
        done = f"{after} multiplications for {before}: A (B C) in the place of (A B) C"
        return Remark("passed", self.name, "MatMul", str(made[-1][2].name), done)


def _obstacle(work: Workspace, product: ir.Node, sizes: Sequence[Sizes]) -> str:
    """Why it cannot be told ahead that the other order is right and takes less, or ""."""
    a, b = product.inputs
    if work.facts.get(product.outputs[0]).dtype == ir.DataType.FLOAT16:
        return "in float16 a sum over all columns of B may overflow"
    open_rows, open_columns = not _static(work, a, -2), not _static(work, b, -1)
    if not (open_rows or open_columns):
        return ""
    size = sizes[0]
    k, m, p = size.k, size.m, sum(each.p for each in sizes)
    if open_rows and not open_columns:
        per_row = m * (k + p) - _GAINS * k * p
        enough = f"more than {_GAINS * k * p * m // per_row} rows" if per_row > 0 else "no number of rows"
    else:
        enough = f"more than {2 * _GAINS * k * p // (k + p)} rows and columns"
    return f"the shape of what lies between the products is open, and it gains from {enough} on"


def _static(work: Workspace, value: ir.Value | None, axis: int) -> bool:
    origin = None if value is None else work.origin(value)
    if origin is None:
        return False
    rank = len(work.facts.get(origin).shape or ())
    return work.recognition.static(origin, (rank + axis,))


def _rewritten(b: Builder, product: ir.Node, reader: Reader) -> ir.Value:
    """What the reader gives, computed in the other order."""
    left, middle = product.inputs
    assert left is not None and middle is not None
    for step in reader.steps:
        middle = middle if step.per_row else step.applied(b, middle)
    node = reader.node
    if node.op_type == "MatMul":
        result = b.op("MatMul", left, b.op("MatMul", middle, node.inputs[1]))
    else:
        result = b.op("MatMul", left, b.reduce(node.op_type, middle, [-1]))
    for step in reader.steps:
        result = step.applied(b, result) if step.per_row else result
    if node.op_type in SUMS and not node.attributes.get_int("keepdims", 1):
        result = b.reduce("ReduceSum", result, [-1], keepdims=False)
    return result


def _origins(work: Workspace, product: ir.Node, b: Builder) -> tuple[list[ir.Value], tuple[Any, ...]]:
    """What new nodes are computed from, behind the features phi(q) and phi(k), and what those are.

    Features are positive as a rule. Random numbers in their place would cancel in a row normaliser, and
    rounding would be all that is left of it.
    """
    inside = {value for node in b.nodes for value in node.outputs}
    read = [value for node in b.nodes for value in node.inputs if value is not None and value not in inside]
    operators = ConeOperators.current()
    leaves: dict[ir.Value, None] = {}
    waiting = [value for value in product.inputs if value is not None]
    features: dict[ir.Node, None] = {}
    while waiting:
        value = waiting.pop(0)
        node = value.producer()
        feature = node is not None and operators.allows(node) and node.op_type not in _MOVES
        if node is None or not feature or len(features) == _MOST_FEATURES or work.is_new(node):
            leaves[value] = None
        elif node not in features:
            features[node] = None
            waiting += [operand for operand in node.inputs if operand is not None]
    leaves |= dict.fromkeys(value for value in read if value not in product.inputs)
    seen = tuple((node.op_type, work.facts.get(node.outputs[0]).shape) for node in features)
    return list(leaves), seen


def _key(work: Workspace, product: ir.Node, reader: Reader) -> Any:
    """Equal for rewrites of equal structure."""
    values = (*product.inputs, *reader.node.inputs[1:], *reader.node.outputs)
    factors = [(step.node, step.node.inputs[1 - step.slot]) for step in reader.steps]
    return (
        *(reader.node.op_type, *(work.facts.get(value).shape for value in values)),
        *((node.op_type, work.facts.get(factor).shape) for node, factor in factors),
    )
