"""The certificate: what was verified, written so that somebody who trusts nobody can do it again.

It holds hashes of both models (the .onnx and every external data file), the rewrites that were applied, the
verdict with its evidence, and its own hash. Checking it runs the comparison again, with no code of the
rewriter, after every byte has been found to be as it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tautomer._version import __version__
from tautomer.errors import BadModelError, CheckFailedError
from tautomer.graph.reader import external_locations
from tautomer.remarks import Remark
from tautomer.verify.provenance import Provenance
from tautomer.verify.verdict import Verdict

FORMAT = "tautomer-certificate-2"
_CHUNK = 1 << 20


def certificate_path(model: str | Path) -> Path:
    """Where the certificate of a model lies: beside it."""
    path = Path(model)
    return path.with_name(f"{path.name}.certificate.json")


def hash_of(model: str | Path) -> dict[str, str]:
    """sha256 of the model file and of each of its external data files, by file name."""
    path = Path(model)
    files = [path.name, *sorted(external_locations(path))]
    return {name: _sha256(path.parent / name) for name in files}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def make_certificate(
    original: Mapping[str, str],
    rewritten: Mapping[str, str],
    verdict: Verdict,
    remarks: Iterable[Remark],
    provenance: Provenance,
) -> dict[str, Any]:
    """The certificate as a JSON document."""
    body: dict[str, Any] = {
        "format": FORMAT,
        "tool": {"name": "tautomer", "version": __version__},
        "original": dict(original),
        "rewritten": dict(rewritten),
        "rewrites": [remark.as_json() for remark in remarks if remark.kind == "passed"],
        "provenance": {name: expression.as_json() for name, expression in sorted(provenance.items())},
        "verification": verdict.as_json(),
    }
    return {**body, "sha256": _digest(body)}


def read_certificate(path: str | Path) -> dict[str, Any]:
    """Reads a certificate and checks that it was not changed.

    Raises:
        BadModelError: it is missing or no certificate.
        CheckFailedError: its own hash does not hold.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModelError(
            "is no certificate that can be read", where=str(path), remedy="optimize the model again"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadModelError(
            f"is not in the format {FORMAT}", where=str(path), remedy="optimize the model again"
        )
    body = {key: value for key, value in document.items() if key != "sha256"}
    if document.get("sha256") != _digest(body):
        raise CheckFailedError("has been changed since it was written", where=str(path))
    return document


def check_files(document: Mapping[str, Any], original: str | Path, rewritten: str | Path) -> None:
    """Compares both models with the certificate, byte for byte.

    Raises:
        CheckFailedError: a file is another one than the certificate speaks of.
    """
    for role, model in (("original", original), ("rewritten", rewritten)):
        expected, found = list(document[role].values()), list(hash_of(model).values())
        if expected != found:
            raise CheckFailedError(
                f"is not the {role} model that the certificate speaks of, or has been changed since",
                where=str(model),
                remedy="give the files the certificate was made for",
            )


def _digest(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
