"""A line that says where and with what a number was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def processor() -> str:
    """The processor's name, as the kernel gives it."""
    facts = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(facts) if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def describe(packages: Iterable[str]) -> str:
    """Processor, cores, Python and the versions of the packages that are installed."""
    found = []
    for package in dict.fromkeys(packages):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores; Python {platform.python_version()}, {', '.join(found)}."
