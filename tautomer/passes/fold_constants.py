"""fold constants: an expression of constants  ->  its value, computed in float64 and rounded once.

    W' = round(expression(W, ...))

Condition: a pass made a node of it; what the model computes from constants by itself is its own business.
Values are computed when they are asked for, slab by slab, so that memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.computed_tensor import ComputedTensor
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.expression import Expression, expression_of
from tautomer.graph.semantics.domain import Unsupported
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_KEPT = 1 << 14  # elements; smaller values are computed once and kept


@dataclass(frozen=True)
class FoldConstants:
    """Makes stored constants of the expressions that passes wrote."""

    name: ClassVar[str] = "fold constants"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Folds in place; equal expressions become one constant."""
        for graph in work.model.graphs():
            made: dict[str, ir.Value] = {}
            # from the readers back: what only an expression reads goes with it
            for node in [node for node in reversed(graph) if work.is_new(node)]:
                for value in node.outputs:
                    self._fold(work, graph, value, made)
        return []

    def _fold(
        self,
        work: Workspace,
        graph: ir.Graph,
        value: ir.Value,
        made: dict[str, ir.Value],
    ) -> None:
        node = value.producer()
        assert node is not None
        if node.graph is None or not value.uses() or not work.facts.get(value).constant:
            return
        expression = expression_of(value, work.sources, work.model.opset_imports, work.facts)
        fact = work.facts.get(value)
        if (
            expression is None
            or fact.shape is None
            or fact.dtype is None
            or not fact.dtype.is_floating_point()
        ):
            return
        if expression.digest not in made:
            name = work.names.fresh("tautomer/folded")
            try:
                tensor = _tensor(expression, work.sources, fact.dtype, fact.shape, name)
            except (Unsupported, ValueError):
                return  # an index out of range, say: it fails when the model runs, as it did before
            constant = ir.Value(name=name, const_value=tensor)
            constant.type, constant.shape = ir.TensorType(fact.dtype), ir.Shape(fact.shape)
            graph.register_initializer(constant)
            work.facts.set(constant, fact)
            work.expressions[constant] = expression
            made[expression.digest] = constant
        value.replace_all_uses_with(made[expression.digest])
        remove_dead([node])


def _tensor(
    expression: Expression,
    sources: Mapping[str, ir.TensorProtocol],
    dtype: ir.DataType,
    shape: tuple[int, ...],
    name: str,
) -> ir.TensorProtocol:
    tensor = ComputedTensor(expression, sources, dtype, shape, name)
    if tensor.size > _KEPT:
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=dtype, name=name)
