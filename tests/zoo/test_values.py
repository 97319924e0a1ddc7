"""Whatever `tautomer.optimize` makes of a case, spelling or near miss, computes the same numbers."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import tautomer

from . import NEAR_MISSES, SPELLINGS
from .case import NearMiss, Spelling
from .evaluate import feeds, run_onnxruntime

CASES = {case.name: case for case in (*SPELLINGS, *NEAR_MISSES)}


@lru_cache(maxsize=1)
def original(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs of a case, and what it gives."""
    model = CASES[name].model()
    fed = feeds(model, 0)
    return fed, run_onnxruntime(model, fed)


@pytest.mark.parametrize("target", ["native", "onnx"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_optimised_model_computes_the_same(case: Spelling | NearMiss, target: str, tmp_path: Path) -> None:
    """The comparison that `optimize` makes by itself is off, so that this one judges alone."""
    fed, before = original(case.name)
    path = tmp_path / "optimised.onnx"
    tautomer.optimize(case.model(), target=target, verify=False).save(path)
    after = run_onnxruntime(onnx.load(path), fed)
    assert list(after) == list(before)
    for name, value in before.items():
        tolerance = 1e-2 if value.dtype == np.float16 else 2e-5
        np.testing.assert_allclose(after[name], value, rtol=tolerance, atol=tolerance)
