"""fold constants: an expression of constants  ->  its value, computed in float64 and rounded once.

    W' = round(expression(W, ...))

Condition: a pass made a node of it; what the model computes from constants by itself is its author's business.
Values are computed when they are asked for, tensor by tensor, so that memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import numpy_type
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.expression import Expression, constant_tensor, expression_of
from tautomer.graph.semantics.mathematics import Float64
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_KEPT = 1 << 14  # elements; smaller values are computed once and kept
_MATHEMATICS = Float64()


@dataclass(frozen=True)
class FoldConstants:
    """Makes stored constants of the expressions that passes wrote."""

    name: ClassVar[str] = "fold constants"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Folds in place; equal expressions become one constant."""
        sources = _sources(work)
        for graph in work.model.graphs():
            made: dict[str, ir.Value] = {}
            roots = [value for node in graph if work.is_new(node) for value in _roots(node)]
            for value in roots:
                self._fold(work, graph, value, sources, made)
        return []

    def _fold(
        self,
        work: Workspace,
        graph: ir.Graph,
        value: ir.Value,
        sources: dict[str, ir.TensorProtocol],
        made: dict[str, ir.Value],
    ) -> None:
        node = value.producer()
        assert node is not None
        if node.graph is None or not work.is_new(node) or not value.uses():
            return
        expression = expression_of(value, work.stored, work.model.opset_imports)
        fact = work.facts.get(value)
        if expression is None or fact.shape is None or fact.dtype is None or not fact.dtype.is_floating_point():
            return
        if expression.digest not in made:
            name = work.names.fresh("tautomer/folded")
            constant = ir.Value(name=name, const_value=_lazy(expression, sources, fact.dtype, fact.shape, name))
            constant.type, constant.shape = ir.TensorType(fact.dtype), ir.Shape(fact.shape)
            graph.register_initializer(constant)
            work.facts.set(constant, fact)
            work.expressions[constant] = expression
            made[expression.digest] = constant
        value.replace_all_uses_with(made[expression.digest])
        remove_dead([node])


def _roots(node: ir.Node) -> list[ir.Value]:
    """What a new node reads from another node: expressions end where something else reads them."""
    return [value for value in node.inputs if value is not None and value.producer() is not None]


def _sources(work: Workspace) -> dict[str, ir.TensorProtocol]:
    """The stored constants, held: rewrites may take the last reader of one away."""
    found: dict[str, ir.TensorProtocol] = {}
    for graph in work.model.graphs():
        values = [*graph.initializers.values(), *(value for node in graph for value in node.outputs[:1])]
        for value in values:
            tensor = constant_tensor(value)
            if tensor is not None:
                found.setdefault(str(value.name), tensor)
    return found


def _lazy(
    expression: Expression,
    sources: dict[str, ir.TensorProtocol],
    dtype: ir.DataType,
    shape: tuple[int, ...],
    name: str,
) -> ir.TensorProtocol:
    needed = {source: sources[source] for source in expression.sources}
    compute: Callable[[], ir.TensorProtocol] = partial(_computed, expression, needed, dtype)
    if int(np.prod(shape)) <= _KEPT:
        tensor = compute()
        tensor.name = name
        return tensor
    return ir.LazyTensor(compute, dtype, ir.Shape(shape), cache=False, name=name)


def _computed(
    expression: Expression, sources: dict[str, ir.TensorProtocol], dtype: ir.DataType
) -> ir.TensorProtocol:
    """The value: float64 throughout, one rounding at the end."""

    def read(name: str) -> Any:
        tensor = sources[name]
        array = _MATHEMATICS.constant(np.asarray(tensor.numpy()))
        if isinstance(tensor, ir.ExternalTensor):
            with suppress(BufferError):  # somebody else reads it too
                tensor.release()  # a mapped file counts as memory until it is unmapped
        return array

    with np.errstate(over="ignore"):
        wide = _MATHEMATICS.concrete(expression.value(_MATHEMATICS, read))
        return ir.tensor(wide.astype(numpy_type(dtype)), dtype=dtype)

