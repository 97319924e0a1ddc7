"""compress: RMSNormalization(x) W  ->  CRMSNormalization(T x) (R^T diag(g) W), one element of each row less.

    1^T x = 0   =>   x = R T x,   |x|^2 = |T x|^2 + (1^T T x)^2  (published)   or   |T x|^2  (orthonormal)

Condition: the stream was centred, so that a row of d - 1 elements holds all of it; everything that reads the
stream is such a norm, and whatever reads those is linear. T and R are in `zero_mean_basis`. It is done on
request only: rows of d - 1 elements are not aligned, and no runtime has a kernel for them.
Source: arXiv 2305.14858.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tautomer.passes.recentre import Norm
from tautomer.passes.streams.compress_norms import compress_norm, norm_refusal
from tautomer.passes.streams.compress_streams import Stream, refusal, shorten_stream, streams_of
from tautomer.passes.streams.zero_mean_basis import Basis
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import function_of
from tautomer.remarks import Remark
from tautomer.target import Target

_FORMS = ("crms", "crms-orthonormal")
_UNALIGNED = "rows of its stream have one element less and are not aligned any more"
_WARNING = {
    "crms": f"{_UNALIGNED}, and its norms take two sums again; it is the noisiest form, because the element "
    "that is left out is the sum of all others, with the rounding errors of all of them",
    "crms-orthonormal": _UNALIGNED,
}


@dataclass(frozen=True)
class Compress:
    """Shortens centred streams by one element.

    Attributes:
        target: where the model will run; its operators of ours come with their function bodies.
        norm: "crms" as published, "crms-orthonormal" in an orthonormal basis, all others nothing.
    """

    name: ClassVar[str] = "compress"
    target: Target
    norm: Norm = "auto"

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each norm of a stream."""
        if self.norm not in _FORMS:
            return []
        remarks: list[Remark] = []
        accepted: list[tuple[Stream, Basis]] = []
        for stream in streams_of(work.streams):
            reason = refusal(work, stream)
            basis = Basis(stream.length, self.norm == "crms-orthonormal")
            for norm in stream.norms:
                reason = reason or norm_refusal(work, norm, basis, self._target(basis))
            if not reason:
                accepted.append((stream, basis))
                continue
            reason = f"its stream keeps its length: {reason}"
            for norm in stream.norms:
                remarks.append(Remark("missed", self.name, norm.op.op, norm.where, reason))
        # all streams before all norms: a constant may be read in one and write to the other
        shorter = [shorten_stream(work, stream, basis) for stream, basis in accepted]
        for (stream, basis), new in zip(accepted, shorter, strict=True):
            for norm in stream.norms:
                work.declare(function_of(basis.definition, work.version))
                compress_norm(work, norm.op, new.get(norm.value, norm.value), basis)
                work.centred.pop(norm.value, None)
                reason = f"{basis.length - 1} numbers hold its rows of {basis.length} with mean zero"
                remarks.append(Remark("passed", self.name, basis.op, norm.where, reason))
            where = stream.norms[0].where
            remarks.append(Remark("analysis", self.name, basis.op, where, _WARNING[self.norm]))
        return remarks

    def _target(self, basis: Basis) -> Target:
        """The target, where a function body will do: the form was asked for."""
        return replace(self.target, forms={**self.target.forms, basis.op: ("function", "keep")})
