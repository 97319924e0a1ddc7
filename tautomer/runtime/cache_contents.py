"""What lies in the kernel cache, and emptying it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tautomer.errors import ResourceError
from tautomer.runtime import cache_entry, cache_folder
from tautomer.runtime.cache_folder import UnusableFolderError
from tautomer.runtime.kernel_cache import NAME, remove


@dataclass(frozen=True)
class Stored:
    """One entry.

    Attributes:
        key: its name.
        state: ready to be used, rejected by its first run, or damaged and built again when it is needed.
        reason: why it is not ready.
        size: bytes.
    """

    key: str
    state: Literal["ready", "rejected", "damaged"]
    reason: str
    size: int


@dataclass(frozen=True)
class Contents:
    """The whole cache.

    Attributes:
        folder: where it is.
        entries: what lies there.
        unfinished: folders of processes that build an entry now, or were stopped while they did.
        problem: why the folder is not used, or nothing.
        remedy: what to do about it.
    """

    folder: Path
    entries: list[Stored] = field(default_factory=list)
    unfinished: int = 0
    problem: str = ""
    remedy: str = ""

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(one.size for one in self.entries)


def contents() -> Contents:
    """Looks at the cache, and leaves nothing behind.

    Raises:
        ResourceError: this user has no home, so there is no cache.
    """
    folder = _folder()
    problem = remedy = ""
    paths: list[Path] = []
    try:
        with contextlib.suppress(FileNotFoundError):  # nothing was kept yet
            cache_folder.check_ours(folder)
            cache_folder.check_executable(folder)
            paths = sorted(folder.iterdir())
        cache_folder.check_writable(folder)
    except OSError as error:
        return Contents(
            folder, problem=f"{folder}: {error.strerror}", remedy="name another in TAUTOMER_CACHE"
        )
    except UnusableFolderError as error:
        problem, remedy = error.reason, error.remedy
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [(path, NAME.fullmatch(path.name)) for path in paths]
    entries = [_stored(path) for path, name in names if name and not name["aside"]]
    return Contents(
        folder,
        [one for one in entries if one],
        sum(1 for _, name in names if name and name["aside"]),
        problem,
        remedy,
    )


def clear() -> int:
    """Removes every entry and everything unfinished; how many folders that were.

    Raises:
        ResourceError: the folder is not ours alone, or something in it cannot be removed.
    """
    folder = _folder()
    try:
        cache_folder.check_ours(folder)
        ours = [path for path in sorted(folder.iterdir()) if NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return 0
    except UnusableFolderError as error:
        # in a folder that others may write, who knows what these names lead to
        raise ResourceError(error.reason, where="kernel cache", remedy=error.remedy) from error
    for path in ours:
        remove(path)
    left = [path for path in ours if path.exists() or path.is_symlink()]
    if left:
        raise ResourceError("cannot be removed", where=str(left[0]), remedy="check who owns it")
    return len(ours)


def _folder() -> Path:
    try:
        return cache_folder.location()
    except UnusableFolderError as error:
        raise ResourceError(error.reason, where="kernel cache", remedy=error.remedy) from error


def _stored(path: Path) -> Stored | None:
    try:
        entry = cache_entry.read_entry(path)
    except FileNotFoundError:  # removed while we looked
        return None
    except (OSError, cache_entry.WrongEntryError) as error:
        size = 0
        with contextlib.suppress(OSError):
            if not path.is_symlink():
                size = sum(one.lstat().st_size for one in path.iterdir())
        return Stored(path.name, "damaged", str(error), size)
    return Stored(path.name, "rejected" if entry.rejected else "ready", entry.rejected, entry.size)
