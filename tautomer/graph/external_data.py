"""Where a model's external data may lie: in regular files below the model's own folder.

A model file names other files to be read. Without a check, a downloaded model reads any file of the user's,
or blocks on a pipe. onnx-ir has checks of its own; it makes them when the data is first used, allows links
that stay inside the folder, skips them all when the folder is "", and compares no sizes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PureWindowsPath

import onnx

from tautomer.errors import BadModelError
from tautomer.graph.contents import expected_bytes
from tautomer.graph.naming import printable

_KNOWN_KEYS = ("location", "offset", "length", "checksum", "basepath")


class DataFiles:
    """The external data of one model; each file is looked at once.

    Attributes:
        sizes: the length of each file, by the location that the model gives.
    """

    def __init__(self, folder: Path | None) -> None:
        """Args: folder: where the model file lies; None when it did not come from a file."""
        self.folder = folder
        self.sizes: dict[str, int] = {}

    def check(self, tensor: onnx.TensorProto, where: str) -> None:
        """Refuses the tensor unless its bytes are all there, below the folder.

        Keys that the format does not define are taken out of the tensor: onnx-ir warns about each.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data if entry.key in _KNOWN_KEYS}
        if len(entries) != len(tensor.external_data):
            del tensor.external_data[:]
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=value)
        location = entries.get("location", "")
        if self.folder is None:
            raise BadModelError(
                "the data is in another file, and a model without a path has no folder to look in",
                where=where,
                remedy="give the path of the model file",
            )
        if location not in self.sizes:
            self.sizes[location] = self._size_of(self.folder, location, where)
        expected = expected_bytes(tensor, where)
        offset = _natural(entries.get("offset", "0"), "offset", where)
        length = _natural(entries.get("length", str(expected)), "length", where)
        if length != expected:
            raise BadModelError(
                f"the shape {list(tensor.dims)} needs {expected} bytes and the tensor declares {length}",
                where=where,
                remedy="export the model again",
            )
        if offset + length > self.sizes[location]:
            raise BadModelError(
                f"{_shown(location)} has {self.sizes[location]} bytes, the tensor ends at {offset + length}",
                where=where,
                remedy="the data file is cut short or belongs to another model: copy or export it again",
            )

    @staticmethod
    def _size_of(folder: Path, location: str, where: str) -> int:
        """The size of the file, once its path is known to be harmless."""
        parts = location.split("/")
        drive = PureWindowsPath(location).drive
        if not parts[0] or ".." in parts or drive or "\0" in location or "\\" in location:
            raise BadModelError(
                f"external data at {_shown(location)} is outside the model's folder",
                where=where,
                remedy="only files in the folder of the model are read",
            )
        path = folder
        for part in parts:
            path = path / part
            try:
                status = os.lstat(path)
            except OSError as error:
                raise BadModelError(
                    f"external data file {_shown(location)} cannot be read ({error.strerror})",
                    where=where,
                    remedy=f"put it beside the model, in {printable(str(folder), 400)}",
                ) from error
            if stat.S_ISLNK(status.st_mode):
                raise BadModelError(
                    f"external data at {_shown(location)} goes through a symbolic link",
                    where=where,
                    remedy="copy the model and its data with `cp -rL` and use the copy",
                )
        if not stat.S_ISREG(status.st_mode):
            raise BadModelError(
                f"external data at {_shown(location)} is not a regular file",
                where=where,
                remedy="put the model's data file there",
            )
        if status.st_nlink > 1:  # a link to someone else's file looks like our own; onnx-ir refuses it later
            raise BadModelError(
                f"external data file {_shown(location)} has several hard links",
                where=where,
                remedy="copy the model and its data and use the copy",
            )
        return status.st_size


def _shown(location: str) -> str:
    return f'"{printable(location)}"'


def _natural(text: str, key: str, where: str) -> int:
    """A number that is not negative, as decimal digits."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadModelError(
            f"the external data's {key} is {_shown(text)}", where=where, remedy="it must be a number of bytes"
        )
    return int(text)
