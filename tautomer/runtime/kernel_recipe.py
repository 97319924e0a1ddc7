"""What decides what a kernel's library is, and so the name under which it is kept."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tautomer._version import __version__
from tautomer.runtime import compiler
from tautomer.runtime.compiler import Compiler

FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """All that decides what a library is.

    Attributes:
        text: the C++ text.
        flags: every flag.
        compiler: the compiler's fingerprint.
        processor: what this processor can do.
    """

    text: str
    flags: tuple[str, ...]
    compiler: str
    processor: str

    @staticmethod
    def here(text: str, flags: Sequence[str], found: Compiler) -> Recipe:
        """The recipe on this machine."""
        return Recipe(text, (*compiler.FLAGS, *flags), found.fingerprint, processor())

    @property
    def key(self) -> str:
        """The name of the entry."""
        parts = [FORMAT, self.text, self.flags, self.compiler, self.processor]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def manifest(self, files: dict[str, str], *, checked: bool) -> dict[str, Any]:
        """What the manifest says, given the sums of the files."""
        return {
            "format": FORMAT,
            "tautomer": __version__,
            "flags": list(self.flags),
            "compiler": self.compiler,
            "processor": self.processor,
            "checked": checked,
            "files": files,
        }


@cache
def processor() -> str:
    """The architecture and every feature that the system reports: `-march=native` may use any of them."""
    features: list[str] = []
    try:
        with Path("/proc/cpuinfo").open(errors="replace") as file:
            for line in file:  # one core says it all; reading all cores is slow on large machines
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    features = sorted(set(value.split()))
                    break
    except OSError:
        features = [platform.processor()]
    return " ".join([platform.machine(), *features])
