"""`tautomer.inspect` reports what a model computes, in every spelling, and nothing that it does not."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

import tautomer

from . import NEAR_MISSES, SPELLINGS
from .case import NearMiss, Spelling
from .evaluate import feeds, run_onnxruntime

every_spelling = pytest.mark.parametrize("case", SPELLINGS, ids=lambda case: case.name)
every_near_miss = pytest.mark.parametrize("case", NEAR_MISSES, ids=lambda case: case.name)


def agree(found: object, expected: object) -> bool:
    if isinstance(expected, float):
        return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=1e-6)
    if isinstance(expected, list | tuple):
        return isinstance(found, list | tuple) and list(found) == list(expected)
    return found == expected


@every_spelling
def test_spelling_is_recognised(case: Spelling) -> None:
    found = tautomer.inspect(case.model())
    here = [one for one in found if one.op == case.op and one.output in case.results()]
    if case.may_decline and not here:
        return
    assert here, f"{case.op} on {case.results()} is not among {[(one.op, one.output) for one in found]}"
    readings = [one.attributes for one in here if case.source in (None, *one.inputs[:1])]
    assert readings, f"{case.op} should read {case.source}, not {[one.inputs for one in here]}"
    assert any(
        all(key in reading and agree(reading[key], value) for key, value in case.attributes.items())
        for reading in readings
    ), f"{case.attributes} is not among {readings}"


@every_near_miss
def test_near_miss_is_refused(case: NearMiss) -> None:
    wrong = [
        (one.op, one.output)
        for one in tautomer.inspect(case.model())
        if one.op == case.looks_like and case.anchor in (None, one.output)
    ]
    assert not wrong, f"{wrong}: {case.why}"


@pytest.mark.parametrize("case", [case for case in SPELLINGS if case.keeps], ids=lambda case: case.name)
def test_what_others_read_survives(case: Spelling, tmp_path: Path) -> None:
    """An inner value that leaves the graph still does, with the same numbers."""
    model = case.model()
    path = tmp_path / "optimised.onnx"
    tautomer.optimize(model).save(path)
    optimised = onnx.load(path)
    assert set(case.keeps) <= {value.name for value in optimised.graph.output}
    fed = feeds(model, 0)
    before, after = run_onnxruntime(model, fed), run_onnxruntime(optimised, fed)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-5)
