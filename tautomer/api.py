"""What `import tautomer` offers: inspect, explain, optimize, verify."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, get_args

import onnx
import onnx_ir as ir

from tautomer.errors import BadModelError, CheckFailedError, InputError
from tautomer.graph.naming import label
from tautomer.graph.reader import as_model
from tautomer.graph.writer import copy_model, write_model
from tautomer.machine import Machine
from tautomer.passes.pipeline import Choices, Rewritten, rewrite
from tautomer.passes.recentre import Norm
from tautomer.patterns.recognition.readings import Mode
from tautomer.patterns.recognition.recognise import Recognition, recognise
from tautomer.patterns.recognition.recognised import Operation, Recognised
from tautomer.remarks import Remark
from tautomer.runtime.certification import Certified, beside, certify, recheck
from tautomer.runtime.equivalence import verify_models
from tautomer.runtime.evidence import Trust, Witness
from tautomer.runtime.machine import machine_of
from tautomer.runtime.tuned import with_gains
from tautomer.target import Target, target_of
from tautomer.verify.given_inputs import checked_inputs, parse_npz
from tautomer.verify.provenance import Provenance
from tautomer.verify.verdict import Verdict

__all__ = ["Operation", "Remark", "Result", "Verdict", "explain", "inspect", "optimize", "verify"]

Source = str | Path | onnx.ModelProto | ir.Model
# a torch.nn.Module or torch.export.ExportedProgram is taken, too; torch is not imported to say so
Module = Any
Progress = Callable[[str], None]


@dataclass(repr=False)
class Result:
    """What `optimize` made.

    Attributes:
        model: the rewritten model, an onnx_ir.Model (onnx_ir.to_proto makes a message of it). Of a torch
            module a module, or an ExportedProgram when that was asked for.
        remarks: what was done and what was not, with reasons.
        before: nodes by operator in the source.
        after: nodes by operator in the result.
        verification: the verdict and its evidence, as `verify --json` gives them.
        changed: whether any rewrite was applied.
        stages: seconds by stage.
        source_path: where the source was read from, if it was.
        program: of a torch module: gives the ExportedProgram.
    """

    model: Any
    remarks: list[Remark]
    before: dict[str, int]
    after: dict[str, int]
    verification: dict[str, Any]
    changed: bool
    stages: dict[str, float] = field(default_factory=dict)
    source_path: Path | None = None
    certified: Certified | None = None
    program: Callable[[], Any] | None = None

    def __repr__(self) -> str:
        """What came out, without the model."""
        kinds = Counter(remark.kind for remark in self.remarks)
        sizes = f"{sum(self.before.values())} -> {sum(self.after.values())} nodes"
        done = f"{kinds['passed']} rewrites applied, {kinds['missed']} not"
        return f"<Result: {self.verification.get('verdict', 'NOT VERIFIED')}, {sizes}, {done}>"

    @property
    def seconds(self) -> float:
        """From reading to the end of the check."""
        return sum(self.stages.values())

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the model: whole or not at all; a model that was not rewritten is copied byte for byte.

        A rewritten model that was verified gets its certificate beside it, when it came from a file. A torch
        module is written as torch.export.save does.

        Raises:
            InputError: the file exists and `force` is not set, or it is the source itself.
            ResourceError: the folder cannot be written to.
        """
        start = time.perf_counter()
        out = Path(path)
        if self.program is not None:
            from tautomer.runtime.torch.exported import save_program

            save_program(self.program(), out, force=force)
        elif not self.changed and self.source_path is not None:
            copy_model(self.source_path, out, force=force)
        else:
            write_model(self.model, out, force=force)
            if self.certified is not None and self.source_path is not None:
                certify(self.source_path, out, self.certified)
        self.stages["save"] = time.perf_counter() - start


def inspect(
    model: Source | Module,
    example_inputs: Sequence[Any] | None = None,
    *,
    constants: Mode = "exact",
    dynamic_shapes: Any = None,
) -> list[Operation]:
    """The operations of a model, as they were recognised.

    Args:
        model: a path, a ModelProto or an onnx_ir model; or a torch module for inference. It is not changed.
        example_inputs: what a torch module's forward takes.
        constants: "nominal" also takes constants that somebody typed with few digits.
        dynamic_shapes: of a torch module, as torch.export takes them.

    Raises:
        BadModelError: the file is damaged, hostile or not ONNX.
        InputError: the torch module cannot be exported.
    """
    if _is_module(model):
        from tautomer.runtime.torch.exported import export, recognised

        found = recognised(export(model, example_inputs, dynamic_shapes), _mode(constants))
        return [op.describe() for op in found.operations]
    return [op.describe() for op in recognise(as_model(model), constants=_mode(constants)).operations]


def explain(
    model: Source | Module,
    example_inputs: Sequence[Any] | None = None,
    *,
    constants: Mode = "exact",
    target: str | Target = "native",
    norm: Norm = "auto",
    merge_products: bool = False,
    defer_scale: bool = False,
    choose_by_logits: bool = False,
    dynamic_shapes: Any = None,
) -> list[Remark]:
    """For every candidate: what it was recognised as and what becomes of it, or why it was not.

    Args:
        model: a path, a ModelProto or an onnx_ir model; or a torch module for inference. It is not changed.
        example_inputs, dynamic_shapes, constants: as for `inspect`.
        target, norm, merge_products, defer_scale, choose_by_logits: as for `optimize`.
    """
    choices = Choices(_norm(norm), merge_products, defer_scale, choose_by_logits)
    if _is_module(model):
        from tautomer.runtime.torch import exported as modules

        exported = modules.export(model, example_inputs, dynamic_shapes)
        there = [_recognised_remark(op) for op in modules.recognised(exported, _mode(constants)).operations]
        done = modules.rewrite_module(
            exported, target=target, asked=choices, constants=_mode(constants), verify=False
        )
        return [*there, *done.remarks]
    wanted = target_of(target)
    working = as_model(model) if isinstance(model, (str, Path)) else as_model(model).clone()
    recognition = recognise(working, constants=_mode(constants))
    found = [_recognised_remark(op) for op in recognition.operations]
    return [*found, *recognition.remarks, *rewrite(working, recognition, wanted, Trust(), choices).remarks]


def optimize(
    model: Source | Module,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: str | Target = "native",
    machine: str | Machine = "native",
    constants: Mode = "exact",
    norm: Norm = "auto",
    merge_products: bool = False,
    defer_scale: bool = False,
    choose_by_logits: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
    export: bool = False,
    dynamic_shapes: Any = None,
) -> Result:
    """Rewrites a model into the form that the target runs fastest, and verifies that it is the same function.

    Every rewrite is checked on its own neighbourhood in exact arithmetic before it is done; one that fails is
    not done, and said. The whole model is verified after.

    Args:
        model: a path, a ModelProto or an onnx_ir model; or a torch module in inference mode, or an
            ExportedProgram. It is left as it is; parameters that did not change are shared with it.
        example_inputs: what a torch module's forward takes; it is exported and compared with them.
        target: "native" (onnxruntime on this machine), "onnxruntime", "kernels" or "onnx" (any runtime); of a
            torch module "native" or "torch" (as it runs by itself), or "inductor" (its compiler).
        machine: the processor that will run it; what was tuned on this one counts for "native" only.
        constants: as for `inspect`.
        norm: the form of layer normalisations: "auto" (what the target runs fastest), "ln" (as they are),
            "rms" (RMSNormalization wherever the stream can be centred), "crms" and "crms-orthonormal" (the
            same with rows of one element less).
        merge_products: linear maps of one tensor (q, k, v) become one product; no known target gains from it.
        defer_scale: norms are applied behind the linear maps that read them, as RowScaledMatMul.
        choose_by_logits: gates of mixtures of experts choose by logits and take the softmax of those; ties
            that the softmax of all makes by rounding are told apart then. Heads that take an argmax, or
            indices of top k, do without the softmax in front of it. Of torch modules, gates only.
        verify: False does without the evidence, and says so in the result.
        progress: called with one line per stage.
        export: of a torch module, gives the ExportedProgram in the place of a module.
        dynamic_shapes: of a torch module, as torch.export takes them.

    Raises:
        BadModelError: the file is damaged, hostile or not ONNX.
        InputError: the torch module is in training mode, cannot be exported, or has tensors without values.
        CheckFailedError: the result differs from the source, or could not be verified. Nothing is returned.
            With choices as they are by default, rewrites that the whole must vouch for are left out first.
    """
    mode, tell = _mode(constants), progress or (lambda line: None)
    choices = Choices(_norm(norm), merge_products, defer_scale, choose_by_logits)
    if _is_module(model):
        from tautomer.runtime.torch import exported as modules

        tell("export")
        start = time.perf_counter()
        exported = modules.export(model, example_inputs, dynamic_shapes)
        stages = {"export": time.perf_counter() - start}
        tell("rewrite")
        start = time.perf_counter()
        made = modules.rewrite_module(exported, target=target, asked=choices, constants=mode, verify=verify)
        program = partial(modules.as_program, exported, made.module)
        after = program() if export else made.module if made.changed else model
        stages["rewrite"] = time.perf_counter() - start
        counts = modules.census(exported.graph), modules.census(made.module)
        return Result(after, made.remarks, *counts, made.verification, made.changed, stages, program=program)
    wanted = with_gains(target_of(target), machine_of(machine))
    try:
        return _optimized(model, wanted, mode, choices, verify=verify, tell=tell)
    except CheckFailedError as failure:
        if choices != Choices():
            raise  # what the user asked for is not left out in silence
        tell("again, without rewrites that the whole model must vouch for")
        result = _optimized(model, wanted, mode, Choices(sites_only=True), verify=verify, tell=tell)
        reason = f"rewrites that the whole model must vouch for were taken back: {failure.what}"
        result.remarks.append(Remark("missed", "recentre", "LayerNormalization", "", reason))
        return result


def _optimized(
    model: Source, wanted: Target, mode: Mode, choices: Choices, *, verify: bool, tell: Progress
) -> Result:
    """One attempt.

    Raises:
        CheckFailedError: the result could not be shown to be the same function.
    """
    stages: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        tell(stage)
        start = time.perf_counter()
        done = work()
        stages[stage] = time.perf_counter() - start
        return done

    path = Path(model) if isinstance(model, (str, Path)) else None
    source: ir.Model = timed("read", lambda: as_model(model))
    before = _census(source)
    # a path is read afresh for the comparison; anything else must be kept as it is
    working = source if path is not None else source.clone()
    recognition: Recognition = timed("recognise", lambda: recognise(working, constants=mode))
    evidence = Witness(working, partial(as_model, path or source)) if verify else Trust()
    done: Rewritten = timed("rewrite", lambda: rewrite(working, recognition, wanted, evidence, choices))
    changed = any(remark.kind == "passed" for remark in done.remarks)
    remarks = [*recognition.remarks, *done.remarks]
    certified = None
    if not changed:
        verification: dict[str, Any] = {
            "verdict": "EQUAL",
            "reason": "no rewrite applied: the model is unchanged",
        }
    elif isinstance(evidence, Trust):
        verification = {"verdict": "NOT VERIFIED", "reason": "switched off"}
    else:
        original = as_model(path) if path is not None else source
        verdict = timed("verify", lambda: evidence.whole(original, working, done.expressions, tell))
        if verdict.verdict != "EQUAL":
            raise CheckFailedError(
                f"the rewritten model is {verdict.verdict.lower()}: {verdict.reason}",
                remedy="nothing was written; --no-verify does without the evidence",
            )
        verification = {**verdict.as_json(), **evidence.means(working, done.centred)}
        certified = Certified(verdict, tuple(remarks), done.expressions)
    after = _census(working)
    return Result(working, remarks, before, after, verification, changed, stages, path, certified)


def verify(
    original: Source,
    other: Source,
    *,
    inputs: str | Path | Mapping[str, Any] | None = None,
    certificate: str | Path | None = None,
    allowed: Collection[str] = (),
    progress: Progress | None = None,
) -> Verdict:
    """Whether two models are the same function, from whatever tool.

    What folded constants stand for is read in a certificate beside the second model, where one fits; without
    it, a difference that their rounding explains is accepted and said.

    Args:
        original: the model that decides.
        other: the model compared with it.
        inputs: arrays by name, or an .npz file of them; made from the model's own constraints when left out.
        certificate: one that `optimize` wrote for these two files; every byte must be as it was.
        allowed: differences in special values that are accepted by name, such as "safe-softmax".
        progress: called with one line per leg.

    Returns:
        EQUAL, DIFFERENT with the first divergent tensor, or NOT VERIFIED.

    Raises:
        InputError: the models take different inputs or give different outputs, or cannot be read.
        CheckFailedError: the certificate does not hold.
    """
    provenance: Provenance = {}
    note = ""
    if isinstance(original, (str, Path)) and isinstance(other, (str, Path)):
        if certificate is not None:
            provenance = recheck(certificate, original, other)
        else:
            provenance, note = beside(original, other)
    elif certificate is not None:
        raise InputError("a certificate is about files", remedy="give both models as paths")
    first, second = as_model(original), as_model(other)
    if isinstance(inputs, (str, Path)):
        inputs = parse_npz(inputs, first)
    elif inputs is not None:
        inputs = checked_inputs(inputs, first)
    compare = partial(verify_models, first, second, inputs=inputs, allowed=allowed, progress=progress)
    if certificate is not None:
        return compare(provenance=provenance)
    if provenance:
        reason = ""
        try:
            verdict = compare(provenance=provenance)
            constants = verdict.legs.get("constants")
            if constants is not None and constants.passed is False:
                reason = str(constants.detail.get("reason", "its constants are others"))
        except BadModelError as error:
            reason = str(error)
        if not reason:
            return replace(verdict, assumptions=(*verdict.assumptions, note))
        note = f"the certificate beside the second model was not used: {reason}"
    verdict = compare(roundings=True)
    return replace(verdict, assumptions=(*verdict.assumptions, note)) if note else verdict


def _is_module(model: Any) -> TypeGuard[Any]:
    """Whether it is torch's: whoever has one has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, (torch.nn.Module, torch.export.ExportedProgram))


def _mode(constants: str) -> Mode:
    if constants == "exact" or constants == "nominal":
        return constants  # type: ignore[return-value]
    raise InputError(f"unknown way to read constants '{constants}'", remedy="choose exact or nominal")


def _norm(norm: str) -> Norm:
    if norm in get_args(Norm):
        return norm  # type: ignore[return-value]
    raise InputError(f"unknown form of norms '{norm}'", remedy=f"choose one of {', '.join(get_args(Norm))}")


def _census(model: ir.Model) -> dict[str, int]:
    counts = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for graph in model.graphs()
        for node in graph
    )
    return dict(sorted(counts.items()))


def _recognised_remark(op: Recognised) -> Remark:
    count = len(op.nodes)
    reason = f"recognised from {count} nodes" if count > 1 else "is written as one node"
    return Remark("analysis", "recognise", op.op, label(op.node), reason)
