"""Exports of real architectures with rows of one element less: proven equal, or refused with the reason."""

from __future__ import annotations

import pytest

import tautomer
from benchmarks.specs import quick

# family, how many norms lose an element, what is said of the others
FOUND = [
    ("gpt2", 5, ""),
    ("pythia", 5, ""),
    ("vit", 5, ""),
    ("clip_vision", 5, "(ReduceMean) reads it and is not linear"),
    ("whisper_encoder", 0, "'last_hidden_state' is an output of the model"),
]


# both forms of the norm are shown on the first of them; what is refused does not depend on the form
CASES = [(*FOUND[0], "crms-orthonormal"), *((*row, "crms") for row in FOUND)]


@pytest.mark.parametrize(("family", "norms", "reason", "norm"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES])
def test_norms_lose_an_element(family: str, norms: int, reason: str, norm: str, exported) -> None:
    path = exported(next(spec for spec in quick() if spec.family == family))
    result = tautomer.optimize(path, norm=norm)  # type: ignore[arg-type]
    assert result.verification["verdict"] == "EQUAL"
    said = [remark for remark in result.remarks if remark.rule == "compress"]
    assert sum(remark.kind == "passed" for remark in said) == norms
    missed = {remark.reason for remark in said if remark.kind == "missed"}
    assert bool(missed) == bool(reason) and all(reason in one for one in missed)
