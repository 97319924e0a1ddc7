"""Libraries of kernels, built once per machine and kept.

An entry is built in a folder aside and takes its place by one rename, so that it is there whole or not at
all; of several processes that build the same one, the first to finish wins and the others use what it made.
There are no locks. Nothing is forced to the disk: what a power failure tears has wrong sums, and is built
again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tautomer.errors import CheckFailedError, ResourceError
from tautomer.runtime import cache_entry, cache_folder, compiler
from tautomer.runtime.cache_entry import LIBRARY, REJECTED, Entry, WrongEntryError
from tautomer.runtime.cache_folder import UnusableFolderError, say_once
from tautomer.runtime.kernel_recipe import Recipe

# a folder of this name is ours; with a tail it is on its way to being an entry or to being gone
NAME = re.compile(r"[0-9a-f]{64}(?P<aside>\.\d+\.[0-9a-f]{16}\.tmp)?")
_ABANDONED_AFTER = 3600.0  # seconds: compiling and the first run are stopped long before
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)

Check = Callable[[Path], str | None]


class RejectedKernelError(CheckFailedError):
    """The kernel was run and found wrong, now or by an earlier process."""


def library(text: str, flags: Sequence[str] = (), *, check: Check | None = None) -> Path:
    """The shared library of a C++ text: from the cache, or built, checked and put there.

    Args:
        text: the source.
        flags: flags besides `compiler.FLAGS`.
        check: is called with a library that was just built, in a folder of its own, before anyone may use it.
            It returns why the kernel must not be used, or None. The reason is kept, and the kernel not tried
            again. An entry that was made without a check does not count when one is given.

    Raises:
        MissingToolError: there is no compiler.
        CheckFailedError: the compiler does not compile the text.
        RejectedKernelError: the check found the kernel wrong.
        ResourceError: no folder can hold libraries.
    """
    recipe = Recipe.here(text, flags, compiler.find())
    try:
        folder = cache_folder.shared_folder()
        for one in filter(None, (folder, cache_folder.private_folder())):
            if found := _lookup(one / recipe.key, recipe, check):
                return _library(found, one / recipe.key)
        return _build(folder, recipe, check)
    except (OSError, UnusableFolderError) as error:
        trouble = error
    try:
        folder = cache_folder.make_private_folder()
        found = _lookup(folder / recipe.key, recipe, check)
        path = _library(found, folder / recipe.key) if found else _build(folder, recipe, check)
    except (OSError, UnusableFolderError) as error:
        raise ResourceError(
            f"no folder can hold native kernels: {_told(trouble)}, and {_told(error)}",
            where="kernel cache",
            remedy=getattr(error, "remedy", "name a folder with free space in TAUTOMER_CACHE"),
        ) from error
    remedy = getattr(trouble, "remedy", "name a folder that is writable and has space in TAUTOMER_CACHE")
    say_once(f"kernels are built for this process only: {_told(trouble)}; {remedy}")
    return path


def _library(entry: Entry, place: Path) -> Path:
    """The library of an entry, or the reason why it is not to be used."""
    if entry.rejected:
        raise RejectedKernelError(
            f"the kernel was rejected: {entry.rejected}",
            where=f"kernel {place.name[:12]}",
            remedy="stock operators are used; `tautomer cache --clear` lets it be tried again",
        )
    return place / LIBRARY


def _lookup(place: Path, recipe: Recipe, check: Check | None) -> Entry | None:
    """What lies there, if it is in order; what is not is moved out of the way."""
    try:
        judged = place.lstat()
        try:
            entry = cache_entry.read_entry(place)
            cache_entry.check_recipe(entry, recipe)
        except WrongEntryError as error:
            say_once(f"the entry {place} of the kernel cache is built again: {error}")
        else:
            if entry.checked or check is None:
                return entry
        _move_aside(place, judged)
    except FileNotFoundError:
        pass
    return None


def _move_aside(place: Path, judged: os.stat_result) -> None:
    """Removes the entry that was judged, and not the one that another process has put there meanwhile."""
    away = _aside(place)
    if not _same(place.lstat(), judged):
        return
    place.rename(away)
    if not _same(away.lstat(), judged):  # it came between the two lines above
        with contextlib.suppress(OSError):  # a third one is there already, just as good
            away.rename(place)
            return
    remove(away)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _build(folder: Path, recipe: Recipe, check: Check | None) -> Path:
    """Builds an entry aside, checks it and publishes it; the path of the library that then lies there."""
    _sweep(folder)
    place = folder / recipe.key
    aside = _aside(place)
    aside.mkdir(mode=0o700)
    try:
        compiler.compile(recipe.text, recipe.flags[len(compiler.FLAGS) :], aside / LIBRARY)
        reason = check(aside / LIBRARY) if check else None
        if reason:
            (aside / LIBRARY).unlink()
            cache_entry.write_json(aside / REJECTED, {"reason": reason})
        cache_entry.write_manifest(aside, recipe, checked=check is not None)
        own = cache_entry.read_entry(aside)
        winner = _publish(aside, place, recipe, check) or own
        return _library(own if reason else winner, place)
    except WrongEntryError as error:
        raise OSError(
            errno.EIO, f"files there do not keep what was written ({error})", str(folder)
        ) from error
    finally:
        remove(aside)


def _publish(aside: Path, place: Path, recipe: Recipe, check: Check | None) -> Entry | None:
    """Gives the entry its name; the entry of another process if that was faster."""
    for _ in range(16):
        try:
            aside.rename(place)
            return None
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if winner := _lookup(place, recipe, check):
            return winner
    raise OSError(errno.EBUSY, "other processes keep putting wrong entries there", str(place))


def _aside(place: Path) -> Path:
    return place.with_name(f"{place.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed have left."""
    now = time.time()
    for path in folder.iterdir():
        name = NAME.fullmatch(path.name)
        if name and name["aside"]:
            with contextlib.suppress(OSError):
                if now - path.lstat().st_mtime > _ABANDONED_AFTER:
                    remove(path)


def remove(path: Path) -> None:
    """Removes a folder, a file or a link, and follows no link; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _told(error: OSError | UnusableFolderError) -> str:
    """What is wrong, and where."""
    if isinstance(error, UnusableFolderError):
        return error.reason
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"
