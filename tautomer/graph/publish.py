"""Files that appear whole or not at all.

Each file is written under a temporary name beside its target, forced to the disk, and renamed. Whatever goes
wrong on the way, a full disk, a signal, a bug, the temporary files go and the targets are as they were.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tautomer.errors import ResourceError
from tautomer.graph.naming import printable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Staging:
    """The files of one result, on their way to their targets."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, Path, BinaryIO]] = []

    def open(self, target: Path) -> BinaryIO:
        """A new file that will become the target."""
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
        # exclusive: never through a link that someone put there; 0o666: the umask decides, as for any file
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(temporary, flags, 0o666), "w+b", buffering=1 << 20)
        self._waiting.append((temporary, target, file))
        return file

    def publish(self) -> None:
        """Renames every file to its target, in the order in which they were opened."""
        for _, _, file in self._waiting:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if len(self._waiting) > 1:
            # an old model must not be seen with the new data: it is better seen as missing
            with contextlib.suppress(FileNotFoundError):
                self._waiting[-1][1].unlink()
        while self._waiting:
            temporary, target, _ = self._waiting[0]
            temporary.replace(target)
            self._waiting.pop(0)
            _sync_folder(target.parent)

    def discard(self) -> None:
        """Removes what was not published."""
        for temporary, _, file in self._waiting:
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextmanager
def staging(out: Path) -> Iterator[Staging]:
    """Files are opened inside the block and published at its end.

    Raises:
        ResourceError: the disk is full, or the folder is missing or not writable.
    """
    stage = Staging()
    try:
        yield stage
        stage.publish()
    except OSError as error:
        raise _explained(error, out) from error
    finally:
        stage.discard()


def _explained(error: OSError, out: Path) -> ResourceError:
    """The refusal that says what to do about it."""
    shown = printable(str(out), 400)
    if error.errno in _FULL:
        return ResourceError(
            "no space left for the file", where=shown, remedy="free some space and run again"
        )
    folder = printable(str(out.parent), 400)
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not out.parent.is_dir():
        return ResourceError("there is no such folder", where=folder, remedy="create it, or choose another")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        return ResourceError("the folder is not writable", where=folder, remedy="choose another")
    return ResourceError(
        f"cannot be written ({error.strerror or error})", where=shown, remedy="choose another place"
    )


def _sync_folder(folder: Path) -> None:
    """Makes the new name survive a power failure, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no such operation
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
