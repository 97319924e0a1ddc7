"""Whatever `tautomer.optimize` makes of a case, spelling or near miss, computes the same numbers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import tautomer

from . import NEAR_MISSES, SPELLINGS
from .case import NearMiss, Spelling
from .evaluate import feeds, run_onnxruntime


@pytest.mark.parametrize("target", ["native", "onnx"])
@pytest.mark.parametrize("case", [*SPELLINGS, *NEAR_MISSES], ids=lambda case: case.name)
def test_optimised_model_computes_the_same(case: Spelling | NearMiss, target: str, tmp_path: Path) -> None:
    """The comparison that `optimize` makes by itself is off, so that this one judges alone."""
    model = case.model()
    path = tmp_path / "optimised.onnx"
    tautomer.optimize(model, target=target, verify=False).save(path)
    fed = feeds(model, 0)
    before, after = run_onnxruntime(model, fed), run_onnxruntime(onnx.load(path), fed)
    assert list(after) == list(before)
    for name, value in before.items():
        tolerance = 1e-2 if value.dtype == np.float16 else 2e-5
        np.testing.assert_allclose(after[name], value, rtol=tolerance, atol=tolerance)
