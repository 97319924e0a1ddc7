"""The pipeline: the passes in order, to be read aloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from tautomer.graph.expression import Expression
from tautomer.passes.basis_functions import BasisFunctions
from tautomer.passes.choose_by_logits import ChooseByLogits
from tautomer.passes.compress import Compress
from tautomer.passes.defer_scale import DeferScale
from tautomer.passes.edge_sums import EdgeSums
from tautomer.passes.expert_gates import ExpertGates
from tautomer.passes.fold_affine import FoldAffine
from tautomer.passes.fold_around_convolutions import FoldAroundConvolutions
from tautomer.passes.fold_constants import FoldConstants
from tautomer.passes.fold_gain import FoldGain
from tautomer.passes.fold_scale import FoldScale
from tautomer.passes.fuse_attention import FuseAttention, Kernels
from tautomer.passes.fuse_rowwise import FuseRowwise
from tautomer.passes.join_norms import JoinNorms
from tautomer.passes.log_probability import LogProbability
from tautomer.passes.lower_einsum import LowerEinsum
from tautomer.passes.lower_joins import LowerJoins
from tautomer.passes.lower_tanh import LowerTanh
from tautomer.passes.masked_write import MaskedWrite
from tautomer.passes.merge_adapters import MergeAdapters
from tautomer.passes.merge_convolution_adapters import MergeConvolutionAdapters
from tautomer.passes.merge_norms import MergeNorms
from tautomer.passes.merge_products import MergeProducts
from tautomer.passes.raise_operations import Raise
from tautomer.passes.reassociate import Reassociate
from tautomer.passes.recentre import Norm, Recentre
from tautomer.passes.rows_in_chunks import RowsInChunks
from tautomer.passes.safe_softmax import SafeSoftmax
from tautomer.passes.select_experts import SelectExperts
from tautomer.passes.sparse_linear import SparseLinear
from tautomer.passes.sums_of_products import SumsOfProducts
from tautomer.passes.unstack import Unstack
from tautomer.passes.workspace import Evidence, Workspace
from tautomer.patterns.recognition.recognise import Recognition
from tautomer.remarks import Remark
from tautomer.target import Target

Weights = Literal["ahead", "prologue", "every run"]


@dataclass(frozen=True)
class Choices:
    """What the user wants of rewrites that are not everybody's.

    Attributes:
        norm: the form that layer normalisations are to take.
        merge_products: whether linear maps of one tensor become one.
        defer_scale: whether norms are applied behind the linear maps that read them.
        choose_by_logits: whether gates and heads may tell logits apart that softmax rounds to one number.
        sites_only: whether to do without rewrites that only the whole model can vouch for.
        attention: asked which forms of attention run; None where all do.
        gates: says of the scores of a gate why no kernel runs it, or ""; None where all do.
        attention_only: whether to do without all other rewrites.
        weights: when new weights are computed: "ahead" of all runs and stored; once by a "prologue" that the
            caller makes of the graph's own nodes; or by these nodes in "every run", as training wants it.
    """

    norm: Norm = "auto"
    merge_products: bool = False
    defer_scale: bool = False
    choose_by_logits: bool = False
    sites_only: bool = False
    weights: Weights = "ahead"
    attention: Kernels | None = None
    gates: Callable[[ir.Value], str] | None = None
    attention_only: bool = False


@dataclass(frozen=True)
class Rewritten:
    """What the passes did.

    Attributes:
        remarks: one per application and per refusal, in the order of the passes.
        expressions: what each constant that was made stands for, by its name.
        centred: names of the values whose mean has to be zero for norms that were converted, with its axes.
    """

    remarks: list[Remark]
    expressions: dict[str, Expression]
    centred: dict[str, tuple[int, ...]] = field(default_factory=dict)


def rewrite(
    model: ir.Model, recognition: Recognition, target: Target, evidence: Evidence, choices: Choices
) -> Rewritten:
    """Applies every pass to a model in place.

    Args:
        model: the model that the recognition is about.
        recognition: its operations; kept in step with the model.
        target: where the result will run.
        evidence: asked before each rewrite; what it refuses is not done.
        choices: what the user wants.
    """
    work = Workspace.of(model, recognition, evidence)
    recentre = Recentre(target, choices.norm, in_every_run=choices.weights == "every run")
    compress = Compress(target, choices.norm)
    asked = MergeProducts(choices.merge_products), DeferScale(choices.defer_scale)
    streams: tuple[Callable[[Workspace], list[Remark]], ...] = (
        FoldScale(),
        FoldGain(),
        FoldAroundConvolutions(),
        recentre,
        compress,
        MergeNorms(target),
        FoldAffine(),
        *asked,
    )
    if choices.weights != "ahead":
        streams = (recentre, compress, *asked)  # the rest changes weights for a little less to do in each run
    merged = MergeAdapters(), MergeConvolutionAdapters()
    adapters = () if choices.sites_only or choices.weights == "every run" else merged
    attention = FuseAttention(target, choices.attention)
    passes: tuple[Callable[[Workspace], list[Remark]], ...] = (
        EdgeSums(),
        LowerEinsum(),
        *adapters,
        attention,
        *(() if choices.sites_only else (Reassociate(),)),
        MaskedWrite(),
        Unstack(target),
        SumsOfProducts(),
        ChooseByLogits(choices.choose_by_logits),
        SelectExperts(choices.choose_by_logits, target),
        ExpertGates(target, choices.gates),
        BasisFunctions(target),
        Raise(target),
        *(() if choices.sites_only else streams),
        SparseLinear(target),
        RowsInChunks(target),
        LogProbability(target),
        SafeSoftmax(target),
        JoinNorms(target),
        LowerTanh(target),
        FuseRowwise(target),
        LowerJoins(target),
        *((FoldConstants(),) if choices.weights == "ahead" else ()),
    )
    chosen = (attention,) if choices.attention_only else passes
    remarks = [remark for each in chosen for remark in each(work)]
    work.settle()
    expressions = {str(value.name): expression for value, expression in work.expressions.items()}
    centred = {str(value.name): axes for value, axes in work.centred.items()}
    return Rewritten(remarks, expressions, centred)
