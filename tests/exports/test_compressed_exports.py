"""Exports of real architectures with rows of one element less: proven equal, or refused with the reason."""

from __future__ import annotations

import pytest

import tautomer
from benchmarks.specs import ExportSpec

# family, how many norms lose an element, what is said of the others
FOUND = [
    ("gpt2", 5, ""),
    ("pythia", 5, ""),
    ("vit", 5, ""),
    ("clip_vision", 5, "(ReduceMean) reads it and is not linear"),
    ("whisper_encoder", 0, "'last_hidden_state' is an output of the model"),
]


@pytest.mark.parametrize("norm", ["crms", "crms-orthonormal"])
@pytest.mark.parametrize(("family", "norms", "reason"), FOUND, ids=[row[0] for row in FOUND])
def test_norms_lose_an_element(family: str, norms: int, reason: str, norm: str, exported) -> None:
    path = exported(ExportSpec(family, "torchscript", 17, "eager", "dynamic"))
    result = tautomer.optimize(path, norm=norm)  # type: ignore[arg-type]
    assert result.verification["verdict"] == "EQUAL"
    said = [remark for remark in result.remarks if remark.rule == "compress"]
    assert sum(remark.kind == "passed" for remark in said) == norms
    missed = {remark.reason for remark in said if remark.kind == "missed"}
    assert bool(missed) == bool(reason) and all(reason in one for one in missed)
