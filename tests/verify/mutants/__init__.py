"""A small transformer, correct rewrites of it, and more than a hundred ways to get one wrong."""

from __future__ import annotations

from mutants import wrong_attention, wrong_norms, wrong_rest, wrong_writers
from mutants.mutant import Mutant
from mutants.transformer import FORMS, ORIGINAL, build, load
from mutants.weights import REGIMES, inputs

__all__ = ["FORMS", "MUTANTS", "ORIGINAL", "REGIMES", "Mutant", "build", "inputs", "load"]

MUTANTS = (
    *wrong_norms.MUTANTS,
    *wrong_writers.MUTANTS,
    *wrong_attention.MUTANTS,
    *wrong_rest.MUTANTS,
)
