"""Which operators may stand inside a cone: pointwise, row reductions, and pure movement of elements.

What looks at where an element is may stand between scores and weights, and in no other cone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.rows import apply_all

MOVEMENT = frozenset(
    {
        "Identity",
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Expand",
        "Slice",
        "Concat",
        "Pad",
    }
)
BY_PLACE = frozenset({"Trilu"})
_LINEAR = frozenset(
    {"Add", "Sub", "Mul", "Div", "Neg", "Cast", "CastLike", "Sum", "Mean", "Dropout", "BatchNormalization"}
)
_NONLINEAR = frozenset(
    {
        "Abs",
        "Ceil",
        "Clip",
        "Cos",
        "Cosh",
        "Erf",
        "Exp",
        "Floor",
        "Log",
        "Max",
        "Min",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Sqrt",
        "Tan",
        "Tanh",
        "Where",
        "PRelu",
        "Shrink",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
        "Equal",
        "Not",
        "And",
        "Or",
        "IsNaN",
        "IsInf",
    }
)
_REDUCTIONS = frozenset(
    {
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceSumSquare",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceProd",
    }
)
# onnxruntime's own names of defined operations: whether they work on rows
_OTHER_NAMES = {
    "SimplifiedLayerNormalization": True,
    "FastGelu": False,
    "BiasGelu": False,
    "QuickGelu": False,
}
_DOMAINS = ("", "ai.onnx", "com.microsoft", "tautomer")


@dataclass(frozen=True)
class ConeOperators:
    """The operators of cones, with the names of the operations defined so far."""

    pointwise: frozenset[str]
    reducing: frozenset[str]
    rowwise: frozenset[str]
    curved: bool
    """Whether every operation on rows takes a root, a power, an exponential or a logarithm."""

    @classmethod
    def current(cls) -> ConeOperators:
        """Reads the definitions; call it once per recognition."""
        known = tuple(definitions())
        rowwise = {d.op for d in known if d.rows} | {op for op, rows in _OTHER_NAMES.items() if rows}
        pointwise = {d.op for d in known if not d.rows} | {
            op for op, rows in _OTHER_NAMES.items() if not rows
        }
        curved = all(_is_curved(d) for d in known if d.rows and not d.composite)
        return cls(_NONLINEAR | pointwise, _REDUCTIONS | rowwise, frozenset(rowwise), curved)

    def allows(self, node: ir.Node) -> bool:
        """True when the node has one output in use and may stand inside a cone."""
        if node.domain not in _DOMAINS:
            return False
        op = node.op_type
        families = MOVEMENT, BY_PLACE, _LINEAR, self.pointwise, self.reducing
        if not any(op in family for family in families):
            return False
        return not any(value.name and (value.uses() or value.is_graph_output()) for value in node.outputs[1:])

    def reduces(self, node: ir.Node) -> bool:
        """True when the node mixes the elements of a row."""
        return node.op_type in self.reducing

    def named_rows(self, node: ir.Node) -> bool:
        """True when the node alone is an operation on rows."""
        return node.op_type in self.rowwise

    def nonlinear(self, node: ir.Node, dependent_operands: int) -> bool:
        """True when the node makes its cone worth evaluating."""
        op = node.op_type
        return (
            op in self.pointwise or op in self.reducing or (op in ("Mul", "Div") and dependent_operands > 1)
        )


class _Recorded(Float64):
    """Double precision that remembers which of its functions were asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in _CURVED:
            self.asked.add(name)
        return super().__getattribute__(name)


_CURVED = ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "power")


def _is_curved(definition: Definition) -> bool:
    m, x = _Recorded(), np.array([[0.5, 1.0, 2.0, 4.0]])
    needed = {name: np.ones(1) for name, absent in definition.channels.items() if absent is None}
    apply_all(definition, m, x, axes=(1,), operands=needed, parameters=definition.parameters)
    return bool(m.asked)


def is_movement(node: ir.Node | None) -> bool:
    """True for a node that only moves elements."""
    return node is not None and node.op_type in MOVEMENT
