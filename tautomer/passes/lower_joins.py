"""lower joins: norm(Add(x, y)) -> norm(Sum(x, y)), for a runtime that fuses the first into a slow kernel.

    Add(x, y) = Sum(x, y)

onnxruntime makes one SkipLayerNormalization of Add and LayerNormalization, whose CPU kernel takes 6 times as
long as the two (benchmarks/results/norms.md). It does not look behind Sum, nor behind RMSNormalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.remarks import Remark
from tautomer.target import Target


@dataclass(frozen=True)
class LowerJoins:
    """Writes the residual joins in front of norms as Sum.

    Attributes:
        target: whether it has that fusion.
    """

    name: ClassVar[str] = "lower joins"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns one remark, or none where there was nothing to do."""
        if not self.target.fuses_joins:
            return []
        joins: list[ir.Node] = []
        for op in work.operations("LayerNormalization"):
            x = op.inputs[0]
            node = None if x is None else x.producer()
            if (
                node is not None
                and op.node.domain != DOMAIN
                and node.op_type == "Add"
                and node.domain in ("", "ai.onnx")
                and node not in joins
            ):
                joins.append(node)
        joins = [node for node in joins if _is_single(work, node)]
        for node in joins:
            node.op_type = "Sum"
        if not joins:
            return []
        reason = f"{len(joins)} residual joins in front of norms are kept apart from them"
        hint = "the runtime would fuse each pair into a kernel that is slower than the two"
        return [Remark("passed", self.name, "Add", str(joins[0].name), reason, hint)]


def _is_single(work: Workspace, node: ir.Node) -> bool:
    """Whether it is a sum of float32: the type for which the runtime has a kernel of Sum."""
    return work.facts.get(node.outputs[0]).dtype == ir.DataType.FLOAT
