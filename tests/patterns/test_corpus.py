"""Models of onnxruntime's own fusion tests: found where they say that a norm, GELU or softmax is."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import onnx_ir as ir
import onnxruntime
import pytest

import tautomer
from tautomer.errors import BadModelError, InputError
from tautomer.graph.reader import read_model
from tautomer.passes.pipeline import Choices, rewrite
from tautomer.patterns.recognition.recognise import recognise
from tautomer.runtime.equivalence import verify_models
from tautomer.runtime.evidence import Trust
from tautomer.target import target_of

CORPUS = Path(os.environ.get("TAUTOMER_CORPUS", "/nonexistent"))
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="TAUTOMER_CORPUS names no folder")

# onnxruntime's fused operators, as what they are
_MEANING = {
    "LayerNormalization": "LayerNormalization",
    "SkipLayerNormalization": "LayerNormalization",
    "EmbedLayerNormalization": "LayerNormalization",
    "SimplifiedLayerNormalization": "RMSNormalization",
    "Gelu": "Gelu",
    "BiasGelu": "Gelu",
    "FastGelu": "Gelu",
    "BiasSoftmax": "Softmax",
    "Softmax": "Softmax",
}


def _files() -> list[Path]:
    return sorted(CORPUS.glob("*.onnx")) if CORPUS.is_dir() else []


def _asserted(name: str) -> dict[str, int]:
    """The most operations of each kind that a test asserts after its fusions; they were there before."""
    index = json.loads((CORPUS / "index.json").read_text())["files"][name]
    asserted: Counter[str] = Counter()
    for test in index.get("ort_tests", []):
        counts: Counter[str] = Counter()
        for op, count in test["expect_after"].items():
            meaning = _MEANING.get(op.removeprefix("com.microsoft."))
            if meaning and isinstance(count, int):
                counts[meaning] += count
        asserted |= counts
    return dict(asserted)


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.stem)
def test_asserted_operations_are_found(path: Path) -> None:
    # two of them have sqrt(2) typed as 1.41421, which is read as sqrt(2) only when asked to
    constants = "nominal" if path.stem.startswith("gelu_format2") else "exact"
    found = Counter(one.op for one in tautomer.inspect(path, constants=constants))
    for op, count in _asserted(path.name).items():
        assert found[op] >= count, f"{found} against {op}: {count}"


def test_a_constant_typed_short_is_refused_with_that_reason() -> None:
    path = CORPUS / "gelu_format2_0.onnx"
    assert not [one for one in tautomer.inspect(path) if one.op == "Gelu"]
    reasons = [remark.reason for remark in tautomer.explain(path) if remark.kind == "missed"]
    assert any("sqrt(2) typed as 1.4142" in reason for reason in reasons)


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.stem)
def test_results_stay_equal_to_the_original(path: Path) -> None:
    proven: set[bytes] = set()  # what several targets make alike is the same model
    for target in ("native", "onnx"):
        try:
            model = read_model(path)
        except BadModelError as error:
            pytest.fail(f"{path.name} is valid: {error}")
        done = rewrite(model, recognise(model), target_of(target), Trust(), Choices())
        if not any(remark.kind == "passed" for remark in done.remarks):
            continue
        try:
            onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception:
            pytest.skip("onnxruntime does not load the original")
        written = ir.to_proto(model).SerializeToString(deterministic=True)
        if written in proven:
            continue
        try:
            verdict = verify_models(read_model(path), model, provenance=done.expressions)
        except InputError as error:
            pytest.skip(f"no inputs can be made for the original: {error}")
        rounding = verdict.legs.get("numerics")
        unknown = verdict.verdict == "NOT VERIFIED" and rounding is not None and rounding.passed
        assert verdict.verdict == "EQUAL" or unknown, (target, verdict)
        proven.add(written)
