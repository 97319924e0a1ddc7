"""Whole exported models against onnxruntime with its optimizations off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.specs import quick
from tautomer.errors import CheckFailedError
from tautomer.graph.reader import read_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.inputs import fitting_inputs
from tautomer.verify.interpreter import run
from tautomer.verify.numerics import judge_models

_CHEAP = ("gpt2", "llama", "vit", "whisper_encoder")


def executing(path: Path, fused: Path | None = None):
    """Runs a model on onnxruntime; with its fusions when there is a file to write the fused model to."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED if fused else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if fused:
        options.optimized_model_filepath = str(fused)
    session = onnxruntime.InferenceSession(str(path), options)

    def execute(inputs):
        try:
            return session.run(None, dict(inputs))
        except Exception as error:
            raise CheckFailedError(str(error)) from error

    return execute


def compared(path: Path) -> float:
    """The largest difference from onnxruntime, relative to the largest element of its output."""
    execute = executing(path)
    model = read_model(path)
    _, made = fitting_inputs(model, execute)
    worst = 0.0
    for inputs in made:
        found = run(model, Float64(), inputs)
        for expected, exact in zip(execute(inputs), found.values(), strict=True):
            if expected.dtype.kind != "f":
                assert np.array_equal(expected, exact)
                continue
            worst = max(worst, float(np.max(np.abs(expected - exact)) / np.max(np.abs(exact))))
    return worst


# float32 and a handful of layers: the worst of all exports measured is 5.4e-7
_TOLERANCE = 2e-6


@pytest.mark.parametrize("spec", [s for s in quick() if s.family in _CHEAP], ids=lambda s: s.name)
def test_quick_exports(spec, exported):
    assert compared(exported(spec)) < _TOLERANCE


@pytest.mark.parametrize("spec", [s for s in quick() if s.family in _CHEAP], ids=lambda s: s.name)
def test_what_onnxruntime_fuses_is_the_same_function(spec, exported, tmp_path):
    """A third party's rewrite: the fused graph means the same, and its rounding is explained."""
    path = exported(spec)
    plain, fast = executing(path), executing(path, tmp_path / "fused.onnx")
    original, fused = read_model(path), read_model(tmp_path / "fused.onnx")
    assert any(node.domain == "com.microsoft" for node in fused.graph)
    sizes, made = fitting_inputs(original, plain)
    for inputs in made:
        expected, found = run(original, Float64(), inputs), run(fused, Float64(), inputs)
        for name, exact in expected.items():  # constants that were folded in float32 differ a little
            assert np.max(np.abs(found[name] - exact)) < 2e-7 * np.max(np.abs(exact))
    scores = judge_models(original, fused, plain, fast, sizes=sizes)
    print(spec.name, len(scores), f"worst score {max(s.score for s in scores):.2g}")
    assert all(s.accepted for s in scores)
