"""lower tanh: the GELU with tanh  ->  the same with a sigmoid, where a sigmoid is faster.

    x / 2 * (1 + tanh u) = x * sigmoid(2 u),    u = sqrt(2 / pi) * (x + 0.044715 x^3)

Condition: the target says so. Runtimes that compile exp inline call a library for tanh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.naming import label
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target

_CUBIC = 0.044715
_WIDE = ir.DataType.FLOAT, ir.DataType.DOUBLE


@dataclass(frozen=True)
class LowerTanh:
    """Writes GELUs with a sigmoid."""

    name: ClassVar[str] = "lower tanh"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each GELU with tanh."""
        if not self.target.slow_tanh:
            return []
        found = [op for op in work.operations("Gelu") if op.attributes.get("approximate") == "tanh"]
        return [self._lower(work, op) for op in found]

    def _lower(self, work: Workspace, op: Recognised) -> Remark:
        x, dtype = op.inputs[0], work.facts.get(op.output).dtype
        assert x is not None
        if dtype is None or op.special:
            reason = op.special or "its element type is not known"
            return Remark("missed", self.name, op.op, label(op.node), reason)
        where, b = label(op.node), work.builder(op.graph)
        new = _with_sigmoid(b, x, dtype)
        refusal = work.evidence.refuses((self.name, op.key), op.output, new, {x: x})
        if refusal:
            b.discard()
            return Remark("missed", self.name, op.op, where, refusal)
        work.replace(op.output, new, b, op.nodes)
        work.forget(op)
        return Remark("passed", self.name, op.op, where, "it computes a sigmoid in the place of a tanh")


def _with_sigmoid(b: Builder, x: ir.Value, dtype: ir.DataType) -> ir.Value:
    """x * sigmoid(2 u); its numbers are no rounder than float32, whatever x is."""
    kind = dtype if dtype in _WIDE else ir.DataType.FLOAT
    cube = b.op("Mul", b.op("Mul", x, x), x)
    inner = b.op("Add", x, b.op("Mul", cube, b.scalar(_CUBIC, kind)))
    twice = b.op("Mul", inner, b.scalar(2.0 * math.sqrt(2.0 / math.pi), kind))
    return b.op("Mul", x, b.op("Sigmoid", twice))
