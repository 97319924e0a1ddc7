"""fold affine: RMSNormalization(x) * g + b read by linear maps  ->  b in their biases, where that gains.

    (n + b) W + c = n W + (c + b W)

Condition: every reader is linear, through what only moves tokens; never across padding, whose new tokens have
no b. The gain g stays: a normalisation multiplies by it in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.linear_maps.into_readers import fold_bias, obstacle
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_readers
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark


@dataclass(frozen=True)
class FoldAffine:
    """Moves the bias that follows an RMSNormalization into its readers."""

    name: ClassVar[str] = "fold affine"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each bias."""
        remarks = []
        for op in work.operations("RMSNormalization"):
            found = bias_after(work, op)
            if found is None:
                continue
            add, bias = found
            readers = linear_readers(work, add.outputs[0])
            if isinstance(readers, str):
                reason = readers
            else:
                reason = obstacle(work, readers, bias) or _loss(work, add, readers) or work.blind()
            if reason or isinstance(readers, str):
                remarks.append(
                    Remark("missed", self.name, op.op, label(op.node), f"its bias stays: {reason}")
                )
                continue
            fold_bias(work, readers, bias)
            work.drop(add.outputs[0], op.output)
            maps = (
                "the linear map that reads"
                if len(readers) == 1
                else f"the {len(readers)} linear maps that read"
            )
            done = f"its bias is folded into {maps} it"
            remarks.append(Remark("passed", self.name, op.op, label(op.node), done))
        return remarks


def bias_after(work: Workspace, op: Recognised) -> tuple[ir.Node, ir.Value] | None:
    """The Add that is the only reader of a norm, and the constant row that it adds."""
    uses = list(op.output.uses())
    if len(uses) != 1 or uses[0][0].op_type != "Add" or op.output.is_graph_output():
        return None
    add, index = uses[0]
    bias, shape = add.inputs[1 - index], work.facts.get(op.output).shape
    fact = work.facts.get(bias)
    if bias is None or not fact.constant or not shape or fact.size != shape[-1]:
        return None
    return (add, bias) if fact.shape and fact.shape[-1] == shape[-1] else None


def _loss(work: Workspace, add: ir.Node, readers: list[LinearReader]) -> str:
    """Why the target would lose by it: more is added behind the readers than in front of them."""
    saved = work.facts.get(add.outputs[0]).size or 0
    new = sum(work.facts.get(reader.output).size or 0 for reader in readers if reader.bias is None)
    return "its readers have no bias, and adding one to each would cost more" if new >= saved else ""
