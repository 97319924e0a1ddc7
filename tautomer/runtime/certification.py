"""Writing the certificate of a rewritten model, and checking one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tautomer.remarks import Remark
from tautomer.verify.certificate import (
    certificate_path,
    check_files,
    hash_of,
    make_certificate,
    read_certificate,
)
from tautomer.verify.provenance import Provenance, provenance_from_json
from tautomer.verify.verdict import Verdict


@dataclass(frozen=True)
class Certified:
    """What a certificate will say, before the files are written."""

    verdict: Verdict
    remarks: tuple[Remark, ...]
    provenance: Provenance


def certify(original: Path, rewritten: Path, certified: Certified) -> Path:
    """Writes the certificate beside the rewritten model, whole or not at all."""
    document = make_certificate(
        hash_of(original), hash_of(rewritten), certified.verdict, certified.remarks, certified.provenance
    )
    path = certificate_path(rewritten)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(aside, path)
    return path


def recheck(certificate: str | Path, original: str | Path, rewritten: str | Path) -> Provenance:
    """Checks that a certificate and both files are as they were; returns what made constants stand for.

    Raises:
        BadModelError: the certificate cannot be read.
        CheckFailedError: a byte has changed, or it is about other files.
    """
    document = read_certificate(certificate)
    check_files(document, original, rewritten)
    return provenance_from_json(document["provenance"])
