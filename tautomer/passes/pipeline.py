"""The pipeline: the passes in order, to be read aloud."""

from __future__ import annotations

import onnx_ir as ir

from tautomer.passes.raise_operations import Evidence, Raise
from tautomer.patterns.recognise import Recognition
from tautomer.remarks import Remark
from tautomer.target import Target


def rewrite(
    model: ir.Model, recognition: Recognition, target: Target, evidence: Evidence
) -> list[Remark]:
    """Applies every pass to a model in place.

    Args:
        model: the model that the recognition is about.
        recognition: its operations.
        target: where the result will run.
        evidence: asked before each rewrite; what it refuses is not done.

    Returns:
        A remark per application and per refusal, in the order of the passes.
    """
    passes = (Raise(target),)
    return [remark for each in passes for remark in each(model, recognition, evidence)]
