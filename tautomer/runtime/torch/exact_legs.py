"""The exact legs of the evidence for graphs that own their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tautomer.graph.fx.groups import OPAQUE, FxModel
from tautomer.runtime.torch.widened import array
from tautomer.verify.algebra import algebra_leg
from tautomer.verify.constants_leg import constants_leg
from tautomer.verify.exact import choose_exact
from tautomer.verify.provenance import Provenance
from tautomer.verify.verdict import Leg


def exact_legs(
    original: FxModel, rewritten: FxModel, values: Sequence[Any], provenance: Provenance
) -> dict[str, Leg]:
    """Whole-graph algebra where every node has a meaning, and the rounding of each folded constant.

    Args:
        original: the graph, read once more.
        rewritten: what became of it.
        values: what its placeholders get.
        provenance: what folded constants stand for.
    """
    legs: dict[str, Leg] = {}
    constants = constants_leg(original.model, rewritten.model, provenance)
    if constants is not None:
        legs["constants"] = constants
    opaque = next((node for node in original.model.graph if node.domain == OPAQUE), None)
    if opaque is not None:
        reason = f"node '{opaque.name}' ({opaque.op_type}) has no meaning outside of torch"
        legs["algebra"] = Leg(None, {"reason": reason})
        return legs
    placeholders = [node for node in original.module.graph.nodes if node.op == "placeholder"]
    inputs = {
        node.name: array(held)
        for node, held in zip(placeholders, values, strict=True)
        if isinstance(held, torch.Tensor)
    }
    exact = choose_exact(original.model)
    legs["algebra"], _ = algebra_leg(original.model, rewritten.model, [inputs], exact, provenance=provenance)
    return legs
