"""Whether a file may be written: asked before the work, and again before the writing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tautomer.errors import InputError, ResourceError
from tautomer.graph.naming import printable


def check_target(out: str | os.PathLike[str], sources: Iterable[Path] = (), *, force: bool = False) -> None:
    """Refuses an output that exists, that is one of its own sources, or that has no place to be.

    Args:
        out: the file to be written.
        sources: files that must never be overwritten, whatever path leads to them.
        force: an existing file may be overwritten.
    """
    out = Path(out)
    shown = printable(str(out), 400)
    if any(same_file(out, source) for source in sources):
        raise InputError("the output is the input itself", where=shown, remedy="choose another output")
    try:
        folder, there, is_folder = out.parent.is_dir(), os.path.lexists(out), out.is_dir()
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"cannot be written ({error})", where=shown, remedy="choose another place"
        ) from error
    if is_folder:
        raise InputError("the output is a folder", where=shown, remedy="give a file name")
    if there and not force:
        raise InputError(
            "the output exists", where=shown, remedy="choose another, or overwrite it with --force"
        )
    where = printable(str(out.parent), 400)
    if not folder:
        raise ResourceError("there is no such folder", where=where, remedy="create it, or choose another")
    if not os.access(out.parent, os.W_OK):
        raise ResourceError("the folder is not writable", where=where, remedy="choose another")


def same_file(one: Path, other: Path) -> bool:
    """Whether both paths lead to one file, through whatever links."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
