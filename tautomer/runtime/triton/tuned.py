"""Configurations that were measured to be the fastest on a GPU: kept by device, believed if they make sense.

An entry is known by the hash of what a kernel computes, the size of an element and the columns of a tile, so
that one of another version of a kernel is never found.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from tautomer.codegen.trace import Program
from tautomer.codegen.triton.configuration import Configuration, block_of
from tautomer.codegen.triton.kernel import triton_kernel
from tautomer.machine import Device
from tautomer.runtime import cache_folder, own_file
from tautomer.runtime.cache_folder import UnusableFolderError, say_once

FORMAT = 1
_FORMS = ("rows", "loops", "parts", "shared", "pointwise")


def key_of(program: Program, columns: int, itemsize: int) -> str:
    """The name of an entry."""
    return f"{triton_kernel(program).name} {itemsize} {block_of(columns) if program.rows else 0}"


def keep(device: Device, found: dict[str, Configuration]) -> Path:
    """Puts configurations into the cache folder, beside those that are there; the file.

    Raises:
        UnusableFolderError: others may write there.
        OSError: it cannot be written.
    """
    entries = {name: asdict(one) for name, one in {**_read(device), **found}.items()}
    place = _place(device)
    own_file.write(place, {"format": FORMAT, "fingerprint": device.fingerprint, "entries": entries})
    recalled.cache_clear()
    return place


@cache
def recalled(device: Device) -> dict[str, Configuration]:
    """What was measured on devices like this one; of a file that is not to be believed one line is said."""
    try:
        return _read(device)
    except (OSError, UnusableFolderError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        say_once("what was tuned for this GPU is damaged or of another version, and is ignored")
        return {}


def _read(device: Device) -> dict[str, Configuration]:
    try:
        document = own_file.read(_place(device))
    except FileNotFoundError:
        return {}
    if document["format"] != FORMAT or document["fingerprint"] != device.fingerprint:
        raise ValueError("it is of another version or device")
    return {name: _checked(Configuration(**entry)) for name, entry in document["entries"].items()}


def _checked(one: Configuration) -> Configuration:
    """Numbers that a kernel can be launched with."""
    sizes = (one.block, one.warps, one.parts, one.rows or 1)
    if one.form not in _FORMS or not all(type(size) is int and _power_of_two(size) for size in sizes):
        raise ValueError("a tile that is none")
    if one.block > 1 << 17 or one.warps > 32 or one.parts > 64 or one.rows > 1 << 10:
        raise ValueError("a tile that is too large")
    return one


def _power_of_two(size: Any) -> bool:
    return bool(size > 0 and size & (size - 1) == 0)


def _place(device: Device) -> Path:
    return cache_folder.location().with_name("tunings") / f"gpu-{device.fingerprint}.json"
