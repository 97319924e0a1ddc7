"""Where kernels are kept: a folder that only its owner can write, or a private one that ends with us."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from tautomer.runtime.child_process import plain

_LOG = logging.getLogger("tautomer.kernels")
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnusableFolderError(Exception):
    """A folder that is not ours alone, or cannot hold libraries; never leaves the cache.

    Args:
        reason: what is wrong and where.
        remedy: what the user can do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(f"{reason}; {remedy}")


def location() -> Path:
    """The folder of kernels: below $TAUTOMER_CACHE, else $XDG_CACHE_HOME/tautomer, else ~/.cache/tautomer.

    Raises:
        UnusableFolderError: this user has no home.
    """
    named, shared = os.environ.get("TAUTOMER_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        if named:
            home = Path(named).expanduser()
        elif shared and Path(shared).is_absolute():  # the specification: relative ones are ignored
            home = Path(shared) / "tautomer"
        else:
            home = Path.home() / ".cache" / "tautomer"
        # a link on the way to the cache is the user's choice; links inside it are refused
        return home.resolve() / "kernels"
    except (RuntimeError, OSError) as error:
        raise UnusableFolderError(
            f"the home folder is not known ({error})", "name a folder in TAUTOMER_CACHE"
        ) from error


def shared_folder() -> Path:
    """The folder that is kept between processes; made when it is missing.

    Raises:
        UnusableFolderError: others may write it, or libraries cannot be loaded from it.
        OSError: it cannot be made.
    """
    folder = location()
    if not folder.is_dir():
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
    check_ours(folder)
    check_executable(folder)
    return folder


def check_ours(folder: Path) -> None:
    """Raises unless the folder and the one above are folders that we own and nobody else may write.

    Raises:
        UnusableFolderError: they are not.
    """
    for one in (folder.parent, folder):
        about = one.lstat()
        if not stat.S_ISDIR(about.st_mode):
            raise UnusableFolderError(
                f"{one} is not a folder", "remove it, or name a folder in TAUTOMER_CACHE"
            )
        if about.st_uid != os.geteuid():
            raise UnusableFolderError(f"{one} belongs to another user", "name a folder in TAUTOMER_CACHE")
        if about.st_mode & _OTHERS_MAY_WRITE:
            raise UnusableFolderError(
                f"others may write {one}",
                f"name a folder of your own in TAUTOMER_CACHE, or run: chmod go-w '{one}'",
            )


def check_executable(folder: Path) -> None:
    """Raises when the file system is mounted so that nothing on it may be executed.

    Raises:
        UnusableFolderError: it is.
    """
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
        raise UnusableFolderError(
            f"libraries cannot be loaded from {folder}: its file system is mounted noexec",
            "name a folder on another one in TAUTOMER_CACHE",
        )


def check_writable(folder: Path) -> None:
    """Raises when a folder can be made neither in this one nor, where it is absent, in the place for it.

    Raises:
        UnusableFolderError: so it is.
    """
    place = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        # root has permissions that mean nothing on some file systems: only trying tells
        Path(tempfile.mkdtemp(dir=place)).rmdir()
    except OSError as error:
        raise UnusableFolderError(
            f"nothing can be written to {place}: {error.strerror}",
            "name a folder that is writable and has space in TAUTOMER_CACHE",
        ) from error


_private: tuple[int, Path] | None = None


def private_folder() -> Path | None:
    """The folder of this process, if it made one."""
    return _private[1] if _private and _private[0] == os.getpid() else None


def make_private_folder() -> Path:
    """The folder of this process, removed when it ends.

    Raises:
        UnusableFolderError: libraries cannot be loaded from it.
        OSError: it cannot be made.
    """
    global _private
    folder = private_folder()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="tautomer-kernels-"))  # mode 0700
        _private = (os.getpid(), folder)
        atexit.register(_remove, os.getpid(), folder)
    check_executable(folder)
    return folder


def _remove(process: int, folder: Path) -> None:
    if os.getpid() == process:  # not in a process that forked off
        shutil.rmtree(folder, ignore_errors=True)


@functools.lru_cache(maxsize=256)
def say_once(text: str) -> None:
    """Tells the user something that is not an error, the first time that it happens in this process."""
    _LOG.warning("tautomer: %s", plain(text, 1000))
