"""The pipeline: the passes in order, to be read aloud."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.expression import Expression
from tautomer.passes.fold_constants import FoldConstants
from tautomer.passes.raise_operations import Raise
from tautomer.passes.workspace import Evidence, Workspace
from tautomer.patterns.recognise import Recognition
from tautomer.remarks import Remark
from tautomer.target import Target


@dataclass(frozen=True)
class Rewritten:
    """What the passes did.

    Attributes:
        remarks: one per application and per refusal, in the order of the passes.
        expressions: what each constant that was made stands for, by its name.
    """

    remarks: list[Remark]
    expressions: dict[str, Expression]


def rewrite(model: ir.Model, recognition: Recognition, target: Target, evidence: Evidence) -> Rewritten:
    """Applies every pass to a model in place.

    Args:
        model: the model that the recognition is about.
        recognition: its operations; kept in step with the model.
        target: where the result will run.
        evidence: asked before each rewrite; what it refuses is not done.
    """
    work = Workspace.of(model, recognition, evidence)
    passes = (Raise(target), FoldConstants())
    remarks = [remark for each in passes for remark in each(work)]
    expressions = {str(value.name): expression for value, expression in work.expressions.items()}
    return Rewritten(remarks, expressions)
