"""The exports of real architectures: everything is recognised, and what is optimized computes the same."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import tautomer
from benchmarks.exports import silence
from benchmarks.families import FAMILIES
from benchmarks.specs import EXPORT_SIZES, UNSEEN, ExportSpec, counted, expected, quick

from .executed import epsilons, executed

NORMS = ("LayerNormalization", "RMSNormalization")
# What is compared: every norm, softmax, attention and activation that a model of the sweep may hold.
COUNTED = (*NORMS, "Softmax", "LogSoftmax", "ScoreAttention", "Gelu", "Gelu(tanh)", "Swish", "Relu", "Mish")

# Both files run in float32, and no rewrite adds more than a few roundings (2^-24) to an element of a tensor.
# Through two layers the sweep's own exports differ from torch by up to 1.6e-6 of the largest output, in
# nothing but the order of their roundings; ten times that is far below what a wrong rewrite does, since
# every bias and gain is 0.1 away from its default.
TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=quick(), ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> ExportSpec:
    """Each export in turn: all tests of one stand together."""
    return request.param


@functools.lru_cache(maxsize=1)
def found_in(path: Path) -> Sequence[tautomer.Operation]:
    """What is found in a file."""
    return tautomer.inspect(path)


def _run(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = {argument.name for argument in session.get_inputs()}
    return session.run(None, {name: value for name, value in inputs.items() if name in taken})


@pytest.mark.parametrize("family", FAMILIES)
def test_expected_counts_are_what_torch_executes(family: str) -> None:
    with silence():
        module = FAMILIES[family].module("eager")
    inputs = FAMILIES[family].sample(EXPORT_SIZES, seed=0).values()
    counts = expected(family)
    counts.pop("ScoreAttention", None)  # in eager attention, the softmax between two products
    assert dict(executed(module, *map(torch.from_numpy, inputs))) == counts


def test_everything_is_found(spec: ExportSpec, exported) -> None:
    found, wanted = counted(found_in(exported(spec))), Counter(expected(spec.family))
    missing, surplus = wanted - found, found - wanted
    unseen = UNSEEN.get((spec.family, spec.exporter), {})
    assert (dict(missing), {op: n for op, n in surplus.items() if op in COUNTED}) == (unseen, {})


def test_every_norm_has_its_own_epsilon(spec: ExportSpec, exported) -> None:
    with silence():
        wanted = epsilons(FAMILIES[spec.family].module(spec.attention))
    norms = [operation for operation in found_in(exported(spec)) if operation.op in NORMS]
    # The file holds the number rounded to float32.
    assert sorted(norm.attributes["epsilon"] for norm in norms) == pytest.approx(wanted, rel=1e-6, abs=0)


def test_the_optimized_file_computes_the_same(spec: ExportSpec, exported, tmp_path: Path) -> None:
    path = exported(spec)
    tautomer.optimize(path).save(tmp_path / "optimized.onnx")
    for seed in (1, 2):
        inputs = spec.inputs(seed)
        outputs = zip(_run(path, inputs), _run(tmp_path / "optimized.onnx", inputs), strict=True)
        for before, after in outputs:
            np.testing.assert_allclose(after, before, rtol=0, atol=TOLERANCE * float(np.abs(before).max()))
