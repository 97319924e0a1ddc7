"""What this machine has: libraries, a compiler, a processor and how much of it is ours.

Nothing is imported to find out: importing torch takes seconds, and a broken installation must not break the
command that is there to find it.
"""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from tautomer._version import __version__
from tautomer.errors import MissingToolError
from tautomer.machine import Machine
from tautomer.runtime import compiler, tuned
from tautomer.runtime.machine import ROOT, cpuinfo, features_of, this_machine
from tautomer.runtime.machine_speed import recalled
from tautomer.runtime.machine_threads import threads_of

# who installs programs here -> how a compiler is asked for
_INSTALLERS = {
    "apt": "apt install g++",
    "dnf": "dnf install gcc-c++",
    "apk": "apk add g++",
    "pacman": "pacman -S gcc",
    "zypper": "zypper install gcc-c++",
}

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


def examine(machine: Machine | None = None) -> list[Finding]:
    """Looks at everything.

    Args:
        machine: what is known about this machine; otherwise that is looked at, too, and nothing is measured.
    """
    machine = machine or recalled(this_machine())
    return [
        Finding("python", "ok", platform.python_version(), required=True),
        Finding("tautomer", "ok", __version__, required=True),
        *(_library(*one) for one in _LIBRARIES),
        _compiler(),
        Finding("system", "ok", f"{platform.system()} {platform.machine()}"),
        *_machine(machine),
    ]


def _library(name: str, required: bool, purpose: str, remedy: str) -> Finding:
    try:
        return Finding(name, "ok", metadata.version(name), required=required)
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", "", f"{remedy} ({purpose})" if purpose else remedy, required)


def _compiler() -> Finding:
    """The C++ compiler that kernels are built with."""
    try:
        found = compiler.find()
    except MissingToolError:
        purpose = "native kernels; without one, models still run on stock operators"
        return Finding("compiler", "missing", "", f"{_how_to_install()} ({purpose})")
    return Finding("compiler", "ok", f"{' '.join(found.command)}: {found.version.partition(chr(10))[0]}")


def _how_to_install() -> str:
    """How a compiler is installed here."""
    if platform.system() == "Darwin":
        return "xcode-select --install"
    return next((how for tool, how in _INSTALLERS.items() if shutil.which(tool)), "install g++ or clang++")


def _machine(machine: Machine) -> list[Finding]:
    """What the processor is and does."""
    features = " ".join(cpu_features()) or "no vector extensions known"
    why = threads_of(ROOT).reason
    cores = f"{machine.threads} of {machine.cores}" + (f" ({why})" if why else "")
    sizes = {"l1": machine.l1, "l2": machine.l2, "l3": machine.l3}
    caches = ", ".join(
        f"{name.upper()} {_size(count)}{' (assumed)' if name in machine.assumed else ''}"
        for name, count in sizes.items()
    )
    return [
        Finding("processor", "ok", f"{machine.name}: {features}"),
        Finding("kernels for", "ok", ", ".join(machine.isas)),
        Finding("cores", "ok", cores),
        Finding("caches", "ok", caches),
        _speed(machine),
        _tuning(machine),
    ]


def _tuning(machine: Machine) -> Finding:
    """Whether the algorithms of kernels were measured here."""
    found = tuned.recalled(machine)
    if found is None:
        return Finding("tuning", "missing", "", "tautomer tune (a minute; until then cache sizes decide)")
    return Finding("tuning", "ok", f"measured: {', '.join(name for name, _ in found.choices)}")


def _speed(machine: Machine) -> Finding:
    """What was measured."""
    moved = machine.bandwidth
    if moved is None:
        return Finding("speed", "missing", "", "tautomer doctor --measure (takes two seconds)")
    names = {"read": moved.read, "copy": moved.copy, "copy around caches": moved.stream}
    known = [f"{name} {rate / 1e9:.3g} GB/s" for name, rate in names.items() if rate is not None]
    known += [f"{machine.peak_flops / 1e9:.3g} GFLOP/s"] if machine.peak_flops is not None else []
    return Finding("speed", "ok", f"one thread: {', '.join(known)}")


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 and count % (1 << 20) == 0 else f"{count >> 10} KiB"


def cpu_features() -> list[str]:
    """The vector extensions that the system reports."""
    return sorted(one for one in features_of(cpuinfo()) if _FEATURES.fullmatch(one))
