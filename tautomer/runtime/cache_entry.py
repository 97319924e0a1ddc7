"""One kernel in the cache: a folder with the text, the library or why there is none, and a manifest.

    kernel.cpp      the text
    kernel.so       the library
    rejected.json   instead of the library: why the kernel must not be used
    manifest.json   the sha256 of the others, and what they were made with

An entry is believed only if it is what we would have written: our own plain files, writable by nobody else,
with these names and sums. No time stands in it, so that equal kernels have equal entries.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tautomer.runtime.kernel_recipe import Recipe

SOURCE, LIBRARY, REJECTED, MANIFEST = "kernel.cpp", "kernel.so", "rejected.json", "manifest.json"
_LARGEST = 1 << 30
# what the system says about links, files and closed doors; anything else may pass and proves nothing
_WRONG = (errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO)
# never through a link, and never waiting for the other end of a pipe that someone put there
_CAREFULLY = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class WrongEntryError(Exception):
    """An entry that is not what we would have written; never leaves the cache."""


@dataclass(frozen=True)
class Entry:
    """What lies in an entry whose files are in order.

    Attributes:
        manifest: its manifest.
        rejected: why the kernel must not be used, or nothing.
        size: bytes.
    """

    manifest: dict[str, Any]
    rejected: str
    size: int

    @property
    def checked(self) -> bool:
        """Whether the kernel was run and found right before it was put here."""
        return self.manifest.get("checked") is True


def write_manifest(folder: Path, recipe: Recipe, *, checked: bool) -> None:
    """Completes a new entry.

    Raises:
        OSError: the folder is full or gone.
    """
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, recipe.manifest(files, checked=checked))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a new file that only we may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(json.dumps(document, indent=1) + "\n")


def read_entry(folder: Path) -> Entry:
    """Reads an entry and checks everything that can be checked without knowing what it should hold.

    Raises:
        FileNotFoundError: there is no such entry.
        WrongEntryError: it is not in order.
    """
    try:
        descriptor = os.open(folder, _CAREFULLY | getattr(os, "O_DIRECTORY", 0))
    except OSError as error:
        if error.errno not in _WRONG:
            raise
        raise WrongEntryError(f"it is not a folder of ours ({error.strerror})") from error
    try:
        _check_owner(os.fstat(descriptor), "it")
        names = sorted(os.listdir(descriptor))  # noqa: PTH208 (of the folder that was checked, not of its name)
        contents = {name: _read(name, descriptor) for name in names}
        manifest = json.loads(contents.pop(MANIFEST, b"null"))
        rejected = json.loads(contents[REJECTED])["reason"] if REJECTED in contents else ""
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WrongEntryError("its manifest cannot be read") from error
    finally:
        os.close(descriptor)
    if set(contents) not in ({SOURCE, LIBRARY}, {SOURCE, REJECTED}):
        raise WrongEntryError("files are missing, or there are others")
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    if not isinstance(manifest, dict) or manifest.get("files") != sums:
        raise WrongEntryError("its files are not those of its manifest")
    return Entry(manifest, str(rejected), sum(map(len, contents.values())))


def check_recipe(entry: Entry, recipe: Recipe) -> None:
    """Raises unless the entry was made by this recipe.

    Raises:
        WrongEntryError: it was made by another, and lies under the wrong name.
    """
    files = entry.manifest["files"]
    expected = recipe.manifest(files, checked=entry.checked)
    # another version of ours may have made it: the format decides, not the version
    if {**entry.manifest, "tautomer": ""} != {**expected, "tautomer": ""}:
        raise WrongEntryError("it was made with something else")
    if files[SOURCE] != hashlib.sha256(recipe.text.encode()).hexdigest():
        raise WrongEntryError("it holds another kernel")


def _read(name: str, folder: int) -> bytes:
    try:
        descriptor = os.open(name, _CAREFULLY, dir_fd=folder)
    except OSError as error:
        if error.errno not in (*_WRONG, errno.ENOENT):
            raise
        raise WrongEntryError(f"{name} cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        _check_owner(about, name)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
            raise WrongEntryError(f"{name} is not a plain file of ours")
        return file.read()


def _check_owner(about: os.stat_result, name: str) -> None:
    if about.st_uid != os.geteuid():
        raise WrongEntryError(f"{name} belongs to another user")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise WrongEntryError(f"others may write {name}")
