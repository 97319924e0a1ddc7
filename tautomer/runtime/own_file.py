"""Small files of ours in the cache folder: read with suspicion, written whole."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from tautomer.runtime import cache_folder

_LARGEST = 1 << 16


def read(place: Path) -> Any:
    """The document of a JSON file, see `read_bytes`.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(read_bytes(place))


def read_bytes(place: Path) -> bytes:
    """What is in a file that is ours and that only we can write.

    Raises:
        UnusableFolderError: others may write the folder.
        OSError: there is none, or it is no file of ours.
    """
    cache_folder.check_ours(place.parent)
    # never through a link, and never waiting for the other end of a pipe
    carefully = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(place, carefully), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise OSError("not a file of ours")
        return file.read(_LARGEST)


def write(place: Path, document: Any) -> None:
    """Puts a document there as JSON, see `write_bytes`."""
    write_bytes(place, (json.dumps(document, indent=1) + "\n").encode())


def write_bytes(place: Path, content: bytes) -> None:
    """Puts the content there: all of it at once, so that nobody reads a part.

    Raises:
        UnusableFolderError: others may write the folder.
        OSError: it cannot be written.
    """
    place.parent.parent.parent.mkdir(parents=True, exist_ok=True)
    for one in (place.parent.parent, place.parent):
        one.mkdir(mode=0o700, exist_ok=True)
    cache_folder.check_ours(place.parent)
    aside = place.with_name(f"{place.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        aside.replace(place)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
