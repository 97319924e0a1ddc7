"""The machine that this process runs on, read from the files of Linux; elsewhere, what Python knows.

Nothing here imports numpy or starts a program, so that it costs a millisecond.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from tautomer.machine import USUAL, Machine, described, isas_of
from tautomer.runtime.machine_threads import text_of, threads_of

ROOT = Path("/")
# level -> the sizes that are believed
_BELIEVED = {1: (1 << 12, 1 << 22), 2: (1 << 15, 1 << 30), 3: (1 << 18, 1 << 34)}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# what distinguishes processors; not the microcode and the clock, which change with time
_MODEL = (
    *("vendor_id", "cpu family", "model", "model name", "stepping"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)


def machine_of(name: str | Machine = "native") -> Machine:
    """The machine of that name: this one ("native"), or one that is described.

    Raises:
        InputError: there is none.
    """
    if isinstance(name, Machine):
        return name
    return this_machine() if name == "native" else described(name)


def this_machine(root: Path = ROOT) -> Machine:
    """The machine that this process runs on; nothing is measured.

    Args:
        root: where /proc and /sys are looked for.
    """
    about = cpuinfo(root)
    features = features_of(about)
    threads = threads_of(root)
    caches, assumed = _caches(root)
    identity = [platform.machine(), {key: about[key] for key in _MODEL if key in about}, sorted(features)]
    fingerprint = hashlib.sha256(json.dumps([*identity, threads.cores]).encode()).hexdigest()
    return Machine(
        name=_name(about),
        isas=isas_of(features),
        cores=threads.cores,
        threads=threads.usable,
        l1=caches[1],
        l2=caches[2],
        l3=caches[3],
        fingerprint=fingerprint[:32],
        assumed=assumed,
    )


def cpuinfo(root: Path = ROOT) -> dict[str, str]:
    """What the system says about the first processor; empty when it says nothing."""
    about: dict[str, str] = {}
    try:
        with (root / "proc/cpuinfo").open(errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in about or (about and not line.strip()):
                    break  # the next processor, which is the same; reading all takes long on large machines
                if key.strip():
                    about[key.strip()] = value.strip()
    except OSError:
        return {}
    return about


def has_pairs(root: Path = ROOT) -> bool:
    """Whether this processor has dot products of pairs of bfloat16, beside AVX-512."""
    return "avx512_bf16" in features_of(cpuinfo(root))


def features_of(about: Mapping[str, str]) -> frozenset[str]:
    """The processor's features, as the system calls them."""
    return frozenset((about.get("flags") or about.get("Features") or "").split())


def _name(about: Mapping[str, str]) -> str:
    """What the processor calls itself; ARM's have numbers only."""
    if about.get("model name"):
        return about["model name"]
    if "CPU part" in about:
        return f"{platform.machine()} {about.get('CPU implementer', '?')}/{about['CPU part']}"
    return platform.processor() or platform.machine() or "unknown processor"


def _caches(root: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    """The size of each level, and the names of those that are only assumed."""
    found: dict[int, int] = {}
    try:
        folders = sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*"))
    except OSError:
        folders = []
    for folder in folders:
        level = text_of(folder / "level").strip()
        size = re.fullmatch(r"(\d{1,12})([KMG]?)", text_of(folder / "size").strip())
        if text_of(folder / "type").strip() not in ("Data", "Unified") or level not in ("1", "2", "3"):
            continue
        least, most = _BELIEVED[int(level)]
        if size and least <= int(size[1]) * _UNITS[size[2]] <= most:
            found[int(level)] = int(size[1]) * _UNITS[size[2]]
    if 2 in found and 3 not in found:
        found[3] = found[2]  # then the second is the last one
    usual = {1: USUAL.l1, 2: USUAL.l2, 3: USUAL.l3}
    return usual | found, tuple(f"l{level}" for level in usual if level not in found)
