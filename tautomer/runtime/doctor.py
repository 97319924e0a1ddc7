"""What this machine has: libraries, a compiler, a processor and how much of it is ours.

Nothing is imported to find out: importing torch takes seconds, and a broken installation must not break the
command that is there to find it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tautomer._version import __version__

_COMPILERS = ("c++", "g++", "clang++")

# distribution, whether every verb needs it, what it is for, how to get it
_LIBRARIES = (
    ("numpy", True, "", "pip install numpy"),
    ("onnx", True, "", "pip install onnx"),
    ("onnx-ir", True, "", "pip install onnx-ir"),
    ("networkx", True, "", "pip install networkx"),
    ("python-flint", True, "", "pip install python-flint"),
    ("onnxruntime", False, "checks and times models", "pip install 'tautomer[ort]'"),
    ("torch", False, "the torch.compile backend", "pip install 'tautomer[torch]'"),
    ("triton", False, "kernels for GPUs", "pip install 'tautomer[triton]', on Linux with a GPU"),
)
_FEATURES = re.compile(r"sse4_2|avx\w*|fma|f16c|amx\w*|asimd\w*|sve\w*|i8mm|bf16|neon")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked for.
        status: ok or missing.
        detail: the version or what was found.
        remedy: how to get it, when it is missing.
        required: every verb needs it.
    """

    name: str
    status: Literal["ok", "missing"]
    detail: str = ""
    remedy: str = ""
    required: bool = False

    def as_json(self) -> dict[str, Any]:
        """The finding as an object of a JSON document."""
        return asdict(self)


def examine() -> list[Finding]:
    """Looks at everything."""
    return [
        Finding("python", "ok", platform.python_version(), required=True),
        Finding("tautomer", "ok", __version__, required=True),
        *(_library(*one) for one in _LIBRARIES),
        _compiler(),
        Finding("system", "ok", f"{platform.system()} {platform.machine()}"),
        Finding("processor", "ok", " ".join(cpu_features()) or "no vector extensions known"),
        Finding("cores", "ok", f"{usable_cores():g} of {os.cpu_count() or 1}"),
    ]


def _library(name: str, required: bool, purpose: str, remedy: str) -> Finding:
    try:
        return Finding(name, "ok", metadata.version(name), required=required)
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", "", f"{remedy} ({purpose})" if purpose else remedy, required)


def _compiler() -> Finding:
    """The first C++ compiler that answers."""
    remedy = "install g++ or clang++ (native kernels; without one, models still run on stock operators)"
    for name in filter(None, (os.environ.get("CXX"), *_COMPILERS)):
        path = shutil.which(name)
        if path is None:
            continue
        try:
            answer = subprocess.run(
                [path, "--version"], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return Finding("compiler", "ok", f"{path}: {answer.stdout.partition(chr(10))[0]}")
    return Finding("compiler", "missing", "", remedy)


def cpu_features() -> list[str]:
    """The vector extensions that the system reports."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return []
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return sorted({flag for flag in flags[1].split() if _FEATURES.fullmatch(flag)}) if flags else []


def usable_cores() -> float:
    """How many cores this process may use: affinity and the container's quota, the smaller of the two."""
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    else:
        cores = float(os.cpu_count() or 1)
    quota = _cgroup_quota()
    return min(cores, quota) if quota else cores


def _cgroup_quota() -> float | None:
    """The CPU quota of the cgroup, in cores; version 2, then version 1."""
    root = Path("/sys/fs/cgroup")
    try:
        text = Path("/proc/self/cgroup").read_text()
        own = next((line[3:].lstrip("/") for line in text.splitlines() if line.startswith("0::")), "")
        quotas = []
        group = root / own
        while group.is_relative_to(root):  # every group above has a say too
            if (group / "cpu.max").is_file():
                limit, period = (group / "cpu.max").read_text().split()
                quotas += [] if limit == "max" else [int(limit) / int(period)]
            group = group.parent
        if (root / "cpu" / "cpu.cfs_quota_us").is_file():
            limit_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
            period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
            quotas += [limit_us / period_us] if limit_us > 0 else []
    except (OSError, ValueError):
        return None
    return min(quotas, default=None)
