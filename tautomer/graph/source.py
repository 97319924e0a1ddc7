"""The bytes of a model file, and what a file is that is not one."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from tautomer.errors import BadModelError, ResourceError
from tautomer.graph.naming import printable

_LARGEST = 2**31 - 1  # protobuf's limit
WORTH_MAPPING = 1 << 24  # below, the parser's copies cost less than the walk over the file

_REMEDY = "export the model to ONNX"
_KNOWN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the model", "run `git lfs pull`"),
    (0, b"PK\x03\x04", "is a zip archive, perhaps a PyTorch checkpoint", _REMEDY),
    (0, b"\x80\x02", "is a Python pickle", _REMEDY),
    (0, b"\x1f\x8b", "is compressed with gzip", "unpack it"),
    (0, b"<", "is a web page or XML", "download the model file itself"),
    (0, b"{", "is JSON", _REMEDY),
    (4, b"ORTM", "is in ONNX Runtime's ORT format", "give the .onnx file that it was made from"),
    (8, b"{", "is a safetensors file, weights without a graph", _REMEDY),
    (4, b"TFL3", "is a TensorFlow Lite model", _REMEDY),
)


def not_a_model(data: memoryview, shown: str) -> BadModelError:
    """The refusal of bytes that are not an ONNX model, as precise as a look at their beginning allows."""
    for offset, magic, what, remedy in _KNOWN:
        if bytes(data[offset : offset + len(magic)]) == magic:
            return BadModelError(what, where=shown, remedy=remedy)
    if bytes(data[:1]) == b"\x08":  # every exporter begins with the IR version
        return BadModelError(
            "the ONNX file is damaged or cut short, or has no graph",
            where=shown,
            remedy="copy or export it again",
        )
    return BadModelError("is not an ONNX model", where=shown, remedy="give an .onnx file")


def content(path: Path) -> memoryview:
    """The bytes of the file: read when it is small, mapped when it is large."""
    shown = printable(str(path), 400)
    try:
        # a pipe must not block the open; whether it is a file is asked of what was opened, not of the name
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise BadModelError("is a folder", where=shown, remedy="give the .onnx file in it")
            if not stat.S_ISREG(status.st_mode):
                raise BadModelError("is not a regular file", where=shown, remedy="give an .onnx file")
            if status.st_size == 0:
                raise BadModelError("the file is empty", where=shown, remedy="export or copy the model again")
            if status.st_size > _LARGEST:
                raise BadModelError(
                    "the file is larger than 2 GiB, which protobuf cannot hold",
                    where=shown,
                    remedy="export the model with external data",
                )
            if status.st_size < WORTH_MAPPING:
                return memoryview(file.read())
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadModelError(f"cannot be read ({reason})", where=shown, remedy="check the path") from error
    except MemoryError as error:
        raise ResourceError(
            "not enough memory to read the model", where=shown, remedy="free some memory"
        ) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
