"""fold gain: (x * g) W + c  ->  x (diag(g) W) + c, for a constant g of one number per channel, and / for *.

IA3 scales the activations of a feed-forward network so. Condition: every reader is a linear map, through what
only moves tokens; a divisor has no zeros; in float16 W keeps its range and its digits. The gain of a norm
stays: a normalisation multiplies by it in any case. A zero in g gives a zero row of W: what it would hide,
infinities of x, come through as NaN either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.linear_maps.into_readers import fold_gain, obstacle
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_readers
from tautomer.passes.linear_maps.weight_check import factors_of, no_divisor, unfit, vanishing
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark


@dataclass(frozen=True)
class FoldGain:
    """Moves gains into the linear maps that read them."""

    name: ClassVar[str] = "fold gain"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each gain in front of linear maps alone."""
        # only asked whether it has a node
        named = {node for op in work.recognition.operations for node in op.nodes}
        remarks = []
        for node in list(work.model.graph):
            found = None if node in named else _gain(work, node)
            if found is None:
                continue
            value, gain, readers = found
            where, reason = label(node), _obstacle(work, node, gain, readers)
            if not reason:
                fold_gain(work, readers, gain, node.op_type)
                work.drop(node.outputs[0], value)
            done = f"its gain per channel is folded into {len(readers)} linear maps"
            kind = "missed" if reason else "passed"
            remarks.append(Remark(kind, self.name, node.op_type, where, reason or done))  # type: ignore[arg-type]
        return remarks


def _gain(work: Workspace, node: ir.Node) -> tuple[ir.Value, ir.Value, list[LinearReader]] | None:
    """What is multiplied, the constant row that it is multiplied by, and the linear maps that read it."""
    if node.op_type not in ("Mul", "Div") or node.domain not in ("", "ai.onnx"):
        return None
    for index in (0, 1) if node.op_type == "Mul" else (0,):
        value, gain = node.inputs[index], node.inputs[1 - index]
        fact, shape = work.facts.get(gain), work.facts.get(value).shape
        if value is None or gain is None or not fact.constant or work.facts.get(value).constant:
            continue
        if not shape or not fact.shape or len(fact.shape) > len(shape) or shape[-1] < 2:
            continue
        if fact.size != shape[-1] or fact.shape[-1] != shape[-1]:
            continue
        readers = linear_readers(work, node.outputs[0])
        if readers and not isinstance(readers, str):
            return value, gain, readers
    return None


def _obstacle(work: Workspace, node: ir.Node, gain: ir.Value, readers: list[LinearReader]) -> str:
    """Why a gain stays, or ""."""
    least, most = factors_of(work, node, gain)
    reasons = [no_divisor(work, node, gain), obstacle(work, readers, gain)]
    reasons += [unfit(work, reader.weight, most) for reader in readers]
    reasons += [vanishing(work, reader.weight, least) for reader in readers]
    return next((reason for reason in reasons if reason), "") or work.blind()
