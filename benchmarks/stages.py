"""Tautomer's own work on a file, stage by stage and without the check of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

IMPORTS = ("tautomer", "tautomer.api")


def run(source: Path, target: Path) -> dict[str, Any]:
    """Reads, recognises, rewrites and writes; returns the seconds of each."""
    import tautomer

    result = tautomer.optimize(source, verify=False)
    result.save(target)
    return {"stages": dict(result.stages)}


def count(source: Path, target: Path) -> dict[str, Any]:
    """What recognition finds in a file, and how many distinct sub-graphs it evaluates for that."""
    from tautomer.graph.reader import read_model
    from tautomer.patterns.recognition.recognise import recognise

    recognition = recognise(read_model(source))
    return {"found": len(recognition.operations), "evaluated": recognition.evaluated}
