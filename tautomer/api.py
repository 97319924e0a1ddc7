"""What `import tautomer` offers: inspect, explain, optimize."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from tautomer.errors import CheckFailedError, InputError
from tautomer.graph.naming import label
from tautomer.graph.reader import as_model
from tautomer.graph.writer import copy_model, write_model
from tautomer.passes.pipeline import rewrite
from tautomer.patterns.readings import Mode
from tautomer.patterns.recognise import Recognition, recognise
from tautomer.patterns.recognised import Operation
from tautomer.remarks import Remark
from tautomer.target import Target, target_of

__all__ = ["Operation", "Remark", "Result", "explain", "inspect", "optimize"]

Source = str | Path | onnx.ModelProto | ir.Model
Progress = Callable[[str], None]


@dataclass
class Result:
    """What `optimize` made.

    Attributes:
        model: the rewritten model; the same object as the source when nothing was rewritten.
        remarks: what was done and what was not, with reasons.
        before: nodes by operator in the source.
        after: nodes by operator in the result.
        verification: how the result was compared with the source.
        seconds: by stage, and in total under "total".
        changed: whether any rewrite was applied.
    """

    model: ir.Model
    remarks: list[Remark]
    before: dict[str, int]
    after: dict[str, int]
    verification: dict[str, Any]
    changed: bool
    stages: dict[str, float] = field(default_factory=dict)
    source_path: Path | None = None

    @property
    def seconds(self) -> float:
        """From reading to the end of the check."""
        return sum(self.stages.values())

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the model: whole or not at all; a model that was not rewritten is copied byte for byte.

        Raises:
            InputError: the file exists and `force` is not set, or it is the source itself.
            ResourceError: the folder cannot be written to.
        """
        start = time.perf_counter()
        if not self.changed and self.source_path is not None:
            copy_model(self.source_path, Path(path), force=force)
        else:
            write_model(self.model, Path(path), force=force)
        self.stages["save"] = time.perf_counter() - start


def inspect(model: Source, *, constants: Mode = "exact") -> list[Operation]:
    """The operations of a model, as they were recognised.

    Args:
        model: a path, a ModelProto or an onnx_ir model; it is not changed.
        constants: "nominal" also takes constants that somebody typed with few digits.

    Raises:
        BadModelError: the file is damaged, hostile or not ONNX.
    """
    return [op.describe() for op in recognise(as_model(model), constants=_mode(constants)).operations]


def explain(model: Source, *, constants: Mode = "exact", target: str | Target = "native") -> list[Remark]:
    """For every candidate: what it was recognised as and what becomes of it, or why it was not.

    Args:
        model: a path, a ModelProto or an onnx_ir model; it is not changed.
        constants: as for `inspect`.
        target: "native", "onnxruntime" or "onnx".
    """
    wanted = target_of(target)
    source = as_model(model)
    recognition = recognise(source, constants=_mode(constants))
    found = [_recognised_remark(op) for op in recognition.operations]
    rewriting = source.clone()
    again = recognise(rewriting, constants=_mode(constants))
    return [*found, *recognition.remarks, *rewrite(rewriting, again, wanted)]


def optimize(
    model: Source,
    *,
    target: str | Target = "native",
    constants: Mode = "exact",
    verify: bool = True,
    progress: Progress | None = None,
) -> Result:
    """Rewrites a model into the form that the target runs fastest, and checks that it is the same function.

    Args:
        model: a path, a ModelProto or an onnx_ir model; a given onnx_ir model is left as it is.
        target: "native" (onnxruntime on this machine), "onnxruntime" or "onnx" (any runtime).
        constants: as for `inspect`.
        verify: compare the result with the source on random inputs; False says so in the result.
        progress: called with one line per stage.

    Raises:
        BadModelError: the file is damaged, hostile or not ONNX.
        CheckFailedError: the result differs from the source. Nothing is returned.
        MissingToolError: `verify` needs onnxruntime, and it is not installed.
    """
    wanted, mode, tell = target_of(target), _mode(constants), progress or (lambda line: None)
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
    remarks: list[Remark] = timed("rewrite", lambda: rewrite(working, recognition, wanted))
    changed = any(remark.kind == "passed" for remark in remarks)
    remarks = [*recognition.remarks, *remarks]
    if not changed:
        verification: dict[str, Any] = {"verdict": "UNCHANGED", "reason": "no rewrite applied"}
    elif not verify:
        verification = {"verdict": "NOT VERIFIED", "reason": "switched off"}
    else:
        verification = timed("check", lambda: _checked(path or source, working))
    return Result(working, remarks, before, _census(working), verification, changed, stages, path)


def _checked(original: Path | ir.Model, rewritten: ir.Model) -> dict[str, Any]:
    from tautomer.runtime.compare import compare

    comparison = compare(original, rewritten)
    if comparison["verdict"] != "AGREES":
        raise CheckFailedError(
            f"the rewritten model does not agree with the original: {comparison['reason']}",
            where=comparison.get("output", ""),
            remedy="nothing was written; please report the model",
        )
    return comparison


def _mode(constants: str) -> Mode:
    if constants == "exact" or constants == "nominal":
        return constants  # type: ignore[return-value]
    raise InputError(f"unknown way to read constants '{constants}'", remedy="choose exact or nominal")


def _census(model: ir.Model) -> dict[str, int]:
    counts = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for graph in model.graphs()
        for node in graph
    )
    return dict(sorted(counts.items()))


def _recognised_remark(op: Any) -> Remark:
    count = len(op.nodes)
    reason = f"recognised from {count} nodes" if count > 1 else "is written as one node"
    return Remark("analysis", "recognise", op.op, label(op.node), reason)
