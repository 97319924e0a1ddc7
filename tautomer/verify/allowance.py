"""The algebra leg of two models that differ, told once more: up to rounding, where that is all there is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from tautomer.verify.rounded_constants import LIMIT, Rounded, rounded
from tautomer.verify.verdict import Leg


def allowing(
    leg: Leg,
    different: Collection[str],
    original: ir.Model,
    other: ir.Model,
    inputs: Sequence[Mapping[str, Any]],
    more: Sequence[Mapping[str, Any]],
) -> Leg:
    """The leg with what the rounding of constants explains of the difference.

    Args:
        leg: as it is in exact arithmetic.
        different: the outputs that differ.
        original: the model that decides.
        other: the model compared with it.
        inputs: made or given inputs.
        more: inputs of unusual kinds.
    """
    found = rounded(original, other, inputs, more, different)
    if found is None:
        return leg
    detail = {**leg.detail, "rounded": found.as_json()}
    of = f"the rounding of {many(found.constants)} of one model only"
    if found.explained:
        del detail["reason"]
        detail["random_weights"] = f"not done: {many(found.constants)} of one model only"
        return Leg(True, detail, (*leg.assumptions, _assumption(found)))
    if found.too_coarse:
        moved = f"{of} moves the outputs by {found.moved:.2g} of their size"
        detail["reason"] = f"{moved}: it would explain anything"
        return Leg(None, detail, leg.assumptions)
    if found.explained is False:
        detail["reason"] += f", by {found.ratio:.3g} times what {of} explains (limit {LIMIT:g})"
    return Leg(leg.passed, detail, leg.assumptions)


def many(constants: int) -> str:
    """How many constants, in words."""
    return f"{constants} constant{'s' if constants != 1 else ''}"


def _assumption(found: Rounded) -> str:
    return (
        f"{many(found.constants)} of one model only {'were' if found.constants != 1 else 'was'} taken for "
        f"rounded: the outputs differ by {found.ratio:.2g} times what half an ulp in each explains "
        f"(limit {LIMIT:g}), and by no more than {found.difference:.1g} of their size"
    )
