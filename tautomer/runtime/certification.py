"""Writing the certificate of a rewritten model, and checking one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tautomer.errors import BadModelError, TautomerError
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
    aside.replace(path)
    return path


def recheck(certificate: str | Path, original: str | Path, rewritten: str | Path) -> Provenance:
    """Checks that a certificate and both files are as they were; returns what made constants stand for.

    Raises:
        BadModelError: the certificate cannot be read.
        CheckFailedError: a byte has changed, or it is about other files.
    """
    document = read_certificate(certificate)
    try:
        check_files(document, original, rewritten)
        return provenance_from_json(document["provenance"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadModelError(
            "is no certificate that can be read", where=str(certificate), remedy="optimize the model again"
        ) from error


def beside(original: str | Path, rewritten: str | Path) -> tuple[Provenance, str]:
    """What the certificate beside a model says of its constants, where there is one that fits both files.

    Nobody vouches for it: what it says is checked like everything else, and what does not fit is left alone.

    Returns:
        The expressions, and a line that says where they come from, or why there are none.
    """
    path = certificate_path(rewritten)
    if not path.is_file():
        return {}, ""
    try:
        provenance = recheck(path, original, rewritten)
    except TautomerError as error:
        return {}, f"the certificate beside the second model was not used: {error}"
    if not provenance:
        return {}, ""
    return provenance, "what folded constants stand for was read in the certificate beside the second model"
